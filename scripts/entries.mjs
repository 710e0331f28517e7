/** Every entry that the packages export. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * @typedef {object} Entry
 * @property {string} name what it is imported as: `@vmm/devices/virtio`
 * @property {string} directory the package's folder
 * @property {string} source the file that it is made of
 * @property {string} types its declarations, where it was built
 */

/**
 * Every entry of every package.
 * @param {string} root the root of the checkout
 * @returns {Entry[]}
 */
export function entries(root) {
  return readdirSync(join(root, 'packages')).flatMap((folder) => {
    const directory = join(root, 'packages', folder)
    const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'))
    return Object.entries(manifest.exports)
      .filter(([, target]) => target.types !== undefined)
      .map(([path, target]) => ({
        name: join(manifest.name, path),
        directory,
        source: join(directory, target['@vmm/source']),
        types: join(directory, target.types),
      }))
  })
}
