/**
 * Networks of a real Linux: over a tap in a network namespace, and between two VMs on a switch in memory.
 */
import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Net } from '@vmm/devices/virtio'
import { Switch } from '@vmm/net'
import { expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { startLinux } from '../support/linux.ts'
import { LinuxVm } from '../support/microvm.ts'
import { describeInNamespace, ip } from '../support/namespace.ts'

const HOST = '10.0.5.1'
const GUEST = '10.0.5.2'
const TAP = 'vmtap0'
/** Of an HTTP transfer. The guest's TCP is interpreted on some hosts. */
const BYTES = 300_000

const md5 = (data: Buffer) => createHash('md5').update(data).digest('hex')

describeWithKvm('networks in Linux', () => {
  describeInNamespace('on a tap', () => {
    test('ping and HTTP both ways', async () => {
      ip(`tuntap add dev ${TAP} mode tap`)
      ip(`address add ${HOST}/24 dev ${TAP}`)
      ip(`link set ${TAP} up`)
      const content = randomBytes(BYTES)
      const server = createServer((_request, response) => response.end(content)).listen(0, HOST)
      try {
        await new Promise((resolve) => server.once('listening', resolve))
        const { port } = server.address() as AddressInfo
        const guest = await startLinux({
          shape: 'net',
          devices: ['--net', `tap=${TAP},mac=02:00:00:00:00:05`],
        })
        guest.child.stdin?.write(
          [
            `ifconfig eth0 ${GUEST} up; echo "mac $(cat /sys/class/net/eth0/address)"`,
            `ping -c 3 ${HOST} | tail -n 2`,
            `wget -q -O - http://${HOST}:${port}/ > /tmp/got; echo "sum $(md5sum < /tmp/got)"`,
            'mkdir /www; cp /tmp/got /www; httpd -h /www; echo "se""rving"',
            '',
          ].join('\n'),
        )
        await guest.waitFor('serving')
        const response = await fetch(`http://${GUEST}/got`)
        const back = Buffer.from(await response.arrayBuffer())
        guest.child.stdin?.end('poweroff\n')
        const { status, stdout, stderr } = await guest.result
        expect(stderr).toBe('')
        expect(status).toBe(0)
        expect(stdout).toMatch(/^mac 02:00:00:00:00:05\r$/m)
        expect(stdout).toMatch(/^3 packets transmitted, 3 packets received, 0% packet loss/m)
        expect(stdout).toMatch(new RegExp(`^sum ${md5(content)}`, 'm'))
        expect(md5(back)).toBe(md5(content))
      } finally {
        server.close()
        server.closeAllConnections()
        ip(`link delete ${TAP}`)
      }
    })
  })

  test('between two VMs on a switch, with JavaScript on a third port', async () => {
    const lan = new Switch()
    let seen = 0
    lan.connect({
      receive: () => {
        seen++
      },
    })
    const [one, two] = await Promise.all(
      ['02:00:00:00:00:01', '02:00:00:00:00:02'].map((mac) =>
        LinuxVm.start({
          shape: `net ${mac}`,
          devices: [(host) => host.virtio.attach(new Net({ network: lan.port(), mac }))],
        }),
      ),
    )
    if (one === undefined || two === undefined) throw new Error('two were started')
    one.type(
      'ifconfig eth0 10.0.6.1 up; mkdir /www; seq 1 8000 > /www/numbers; md5sum /www/numbers',
      'httpd -h /www; echo "se""rving"',
    )
    const [, sum] = await one.until(/^([0-9a-f]{32}) {2}\/www/m)
    await one.until(/^serving$/m)
    two.type(
      'ifconfig eth0 10.0.6.2 up; ping -c 3 10.0.6.1 | tail -n 2',
      'wget -q -O - http://10.0.6.1/numbers | md5sum',
      'poweroff',
    )
    await two.ended
    one.vm.stop('done')
    await one.ended
    expect(two.output).toMatch(/^3 packets transmitted, 3 packets received, 0% packet loss/m)
    expect(two.output).toMatch(new RegExp(`^${sum}  -$`, 'm'))
    // The first of all is for everybody: who has 10.0.6.1?
    expect(seen).toBeGreaterThan(0)
    expect([...one.warnings, ...two.warnings]).toEqual([])
  })
})
