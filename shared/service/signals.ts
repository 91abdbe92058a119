const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const

/** A signal that asks a service to stop. */
export type StopSignal = (typeof SIGNALS)[number]

const exit = process.exit.bind(process)
let act: (signal: StopSignal) => void = () => exit(0)
for (const signal of SIGNALS) process.on(signal, () => act(signal))

/**
 * What a service does at SIGTERM, SIGINT and SIGHUP from now on. Before, it exits with 0: it has nothing to finish. A service imports this module before all
 * others, since the kernel drops a signal that the first process of a container does not handle (pid_namespaces(7)), and Kubernetes would wait for the whole
 * grace period of a pod that is stopped while it starts.
 */
export function onStopSignal(listener: (signal: StopSignal) => void): void {
  act = listener
}
