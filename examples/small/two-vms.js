// @vmm/net: two VMs and a JavaScript function on an Ethernet switch in memory. No tap, no root.
import { Net } from '@vmm/devices/virtio'
import { formatMac, Switch } from '@vmm/net'
import { Linux } from './linux.js'

const BROADCAST = 'ff:ff:ff:ff:ff:ff'

const lan = new Switch()
lan.connect({
  receive: (frame) => {
    const [to, from] = [frame.subarray(0, 6), frame.subarray(6, 12)].map(formatMac)
    if (to === BROADCAST) console.log(`[wire] ${from} asks everybody`)
  },
})

const boot = (/** @type {string} */ mac) =>
  Linux.boot([(host) => host.virtio.attach(new Net({ network: lan.port({ mac }), mac }))])

const [ada, bob] = await Promise.all([boot('02:00:00:00:00:01'), boot('02:00:00:00:00:02')])
await ada.run('ifconfig eth0 10.0.0.1 up; mkdir /www; echo "hello from Ada" > /www/index.html; httpd -h /www')
console.log(`[bob] ${await bob.run('ifconfig eth0 10.0.0.2 up; wget -q -O - http://10.0.0.1/')}`)
await Promise.all([ada.close(), bob.close()])
