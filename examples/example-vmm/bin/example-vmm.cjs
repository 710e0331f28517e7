#!/usr/bin/env node
'use strict'
// CommonJS on purpose. Every vCPU holds a thread of libuv's pool while it runs, libuv reads the pool's size when
// the pool is first used, which importing an ES module does: this is the last moment to say how many are wanted.
const { argv, env } = process
const given = argv.find((word, index) => argv[index - 1] === '--cpus' || word.startsWith('--cpus='))
const vcpus = Math.ceil(Number(given?.replace('--cpus=', '') ?? 1))
env.UV_THREADPOOL_SIZE ??= String(4 + (vcpus >= 1 && vcpus <= 1000 ? vcpus : 1))
require('../dist/index.cjs')
