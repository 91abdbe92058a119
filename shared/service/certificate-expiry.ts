import { Gauge, type Registry } from 'prom-client'

/** When a certificate that is in use expires. */
export interface Expiry {
  /** Which one it is, such as "kafka-client". */
  certificate: string
  /** Since the epoch. */
  notAfterMs: number
}

type Expiries = () => readonly Expiry[]

const added = new WeakMap<Registry, Expiries[]>()

/** Adds certificates to the one metric of the process's certificates, which are read at each scrape. */
export function addCertificateMetric(registry: Registry, expiries: Expiries): void {
  const others = added.get(registry)
  if (others !== undefined) {
    others.push(expiries)
    return
  }
  const all = [expiries]
  added.set(registry, all)
  new Gauge({
    name: 'kafkatrace_certificate_not_after_seconds',
    help: 'When a certificate that is in use expires, seconds since the epoch.',
    labelNames: ['certificate'] as const,
    registers: [registry],
    collect() {
      this.reset()
      for (const { certificate, notAfterMs } of all.flatMap((one) => one()))
        this.set({ certificate }, notAfterMs / 1_000)
    },
  })
}
