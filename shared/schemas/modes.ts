/** The modes of compatibility, as Confluent's registry names its levels. */
export const MODES = [
  'NONE',
  'BACKWARD',
  'FORWARD',
  'FULL',
  'BACKWARD_TRANSITIVE',
  'FORWARD_TRANSITIVE',
  'FULL_TRANSITIVE',
] as const
export type Mode = (typeof MODES)[number]
