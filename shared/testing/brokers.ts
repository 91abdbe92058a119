/** The brokers of integration tests, which `bun run test` starts. */
export function testBrokers(): string {
  const brokers = process.env.KAFKATRACE_TEST_BROKERS
  if (brokers === undefined)
    throw new Error(
      'integration tests need a broker: use `bun run test --integration`, or set KAFKATRACE_TEST_BROKERS to one that may be written to',
    )
  return brokers
}

/** A name that no other test uses, nor an earlier run on the same broker. Valid as a tenant or a group. */
export const uniqueName = (prefix: string): string =>
  `${prefix}-${Date.now().toString(36)}-${crypto.randomUUID().slice(0, 8)}`
