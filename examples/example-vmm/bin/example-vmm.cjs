#!/usr/bin/env node
'use strict'
// CommonJS on purpose. Every vCPU holds a thread of libuv's pool while it runs, libuv reads the pool's size when
// the pool is first used, which importing an ES module does: this is the last moment to say how many are wanted.
const cpus = process.argv.indexOf('--cpus')
const wanted = cpus > 0 ? Number(process.argv[cpus + 1]) : 1
process.env.UV_THREADPOOL_SIZE ??= String(Math.min(1024, 4 + (wanted > 0 ? Math.ceil(wanted) : 1)))
require('../dist/index.js')
