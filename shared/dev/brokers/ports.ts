import { createSocket, type Socket } from 'node:dgram'
import { createServer } from 'node:net'

/**
 * Below the range from which Linux (32768 up) and macOS (49152 up) take the local ports of outgoing connections. A client that keeps
 * connecting to a killed broker on loopback can otherwise be given that very port, connect to itself and keep the broker from it.
 */
const firstPort = 15_000
const lastPort = 29_999
const attempts = 200

/**
 * What was found, by port. A port is held by a UDP socket of its number, of which one process can have one at a time, and none once it has
 * ended, however it ended. What listens there speaks TCP, whose ports are others, so it does not notice.
 */
const held = new Map<number, Socket>()

/** Holds the port against all other callers, in this process and in others. Resolves to false when one of them holds it. */
export function holdPort(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', () => resolve(false))
    socket.bind({ address: '127.0.0.1', port, exclusive: true }, () => {
      socket.unref()
      held.set(port, socket)
      resolve(true)
    })
  })
}

/** Gives ports back that {@link findFreePorts} found; those that are not held any more are left alone. */
export function releasePorts(ports: readonly number[]): void {
  for (const port of ports) {
    held.get(port)?.close()
    held.delete(port)
  }
}

/** Resolves to false when something listens on that loopback port. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/**
 * `count` different loopback ports that nothing listens on, and that nobody else who asks here is given until this process ends or gives
 * them back.
 */
export async function findFreePorts(count: number): Promise<number[]> {
  const found: number[] = []
  for (let attempt = 0; attempt < attempts && found.length < count; attempt++) {
    const port = firstPort + Math.floor(Math.random() * (lastPort - firstPort + 1))
    if (!(await holdPort(port))) continue
    if (await isPortFree(port)) found.push(port)
    else releasePorts([port])
  }
  if (found.length < count) {
    releasePorts(found)
    throw new Error(`no ${count} free ports between ${firstPort} and ${lastPort}`)
  }
  return found
}
