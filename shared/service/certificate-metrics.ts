import { Gauge, type Registry } from 'prom-client'

/** When each certificate of a process expires, ms since the epoch; undefined while there is none. */
type NotAfterMs = () => number | undefined

const shown = new WeakMap<Registry, Map<string, NotAfterMs>>()

/**
 * Shows when a certificate expires, in a gauge that all certificates of a process share.
 * @param service as in the names of its other metrics
 * @param certificate what it is for, the label
 */
export function showNotAfter(registry: Registry, service: string, certificate: string, notAfterMs: NotAfterMs): void {
  const others = shown.get(registry)
  if (others !== undefined) {
    others.set(certificate, notAfterMs)
    return
  }
  const all = new Map([[certificate, notAfterMs]])
  shown.set(registry, all)
  new Gauge({
    name: `kafkatrace_${service}_certificate_not_after_seconds`,
    help: 'When a certificate expires, seconds since the epoch, by what it is for.',
    labelNames: ['certificate'],
    registers: [registry],
    collect() {
      this.reset()
      for (const [certificate, notAfterMs] of all) {
        const ms = notAfterMs()
        if (ms !== undefined) this.set({ certificate }, ms / 1_000)
      }
    },
  })
}
