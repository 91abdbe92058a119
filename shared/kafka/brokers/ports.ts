import { createServer } from 'node:net'

/**
 * Below the range from which Linux (32768 up) and macOS (49152 up) take the local ports of outgoing connections. A client that keeps
 * connecting to a killed broker on loopback can otherwise be given that very port, connect to itself and keep the broker from it.
 */
const firstPort = 15_000
const lastPort = 29_999
const attempts = 200

/** Resolves to false when something listens on that loopback port. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/** `count` different loopback ports that nothing listens on at the moment. */
export async function findFreePorts(count: number): Promise<number[]> {
  const found = new Set<number>()
  for (let attempt = 0; attempt < attempts && found.size < count; attempt++) {
    const port = firstPort + Math.floor(Math.random() * (lastPort - firstPort + 1))
    if (!found.has(port) && (await isPortFree(port))) found.add(port)
  }
  if (found.size < count) throw new Error(`no ${count} free ports between ${firstPort} and ${lastPort}`)
  return [...found]
}
