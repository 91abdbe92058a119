/** Access by tenants that stay as they are, for what answers requests. */
export const UNCHANGING = {
  onChange: () => undefined,
  whileAllowed: () => () => undefined,
  credentials: () => new Map(),
}
