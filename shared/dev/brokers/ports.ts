import { createSocket, type Socket } from 'node:dgram'
import { createServer } from 'node:net'

/**
 * Below the ephemeral port range of Linux (from 32768) and macOS (from 49152). Otherwise a client that keeps reconnecting to a killed
 * broker on loopback can be given that very port as its source port, connect to itself, and block the broker.
 */
const firstPort = 15_000
const lastPort = 29_999
const attempts = 200

/**
 * Held ports. Each is held by a UDP socket of the same number: only one process can have it, and the kernel releases it when the process
 * ends in any way. The servers listen on TCP, so the socket does not disturb them.
 */
const held = new Map<number, Socket>()

/** Holds the port against all other callers, in this process and in others. Resolves to false when it is already held. */
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

/** Releases ports that {@link findFreePorts} returned. Ignores those that are not held. */
export function releasePorts(ports: readonly number[]): void {
  for (const port of ports) {
    held.get(port)?.close()
    held.delete(port)
  }
}

/** Resolves to false when something listens on this loopback port. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/**
 * `count` different loopback ports on which nothing listens. No other caller of this function gets them until they are released, or this
 * process ends.
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
