#!/usr/bin/env node
'use strict'
// CommonJS on purpose. Every vCPU holds a thread of libuv's pool while it runs, libuv reads the pool's size when
// the pool is first used, which importing an ES module does: this is the last moment to say how many are wanted.
const { readFileSync } = require('node:fs')
const { join } = require('node:path')

const { argv, env } = process
/** For the file system, for DNS, and for disks. */
const SPARE_THREADS = 4
/** libuv has no more. */
const THREADS_MAX = 1024

const given = (name) =>
  argv.find((word, index) => argv[index - 1] === name || word.startsWith(`${name}=`))?.replace(`${name}=`, '')

/** How many vCPUs a saved VM has; what is wrong with it is told later. */
function savedVcpus(folder) {
  try {
    const { state } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'))
    return JSON.parse(readFileSync(join(folder, state.file), 'utf8')).vm.vcpus.length
  } catch {
    return 1
  }
}

const isRestore = argv[2] === 'restore'
const vcpus = isRestore
  ? // The folder is the one word that is no option and no option's value: where a snapshot is.
    Math.max(1, ...argv.slice(3).map(savedVcpus)) * Number(given('--clones') ?? 1)
  : Number(given('--cpus') ?? 1)
const threads = Math.ceil(Math.max(1, vcpus || 1)) + SPARE_THREADS
env.UV_THREADPOOL_SIZE ??= String(Math.min(threads, THREADS_MAX))
require('../dist/index.cjs')
