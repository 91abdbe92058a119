/** A failed attempt for another reason than an error that the handler threw. */
export class AttemptFault extends Error {
  override readonly name = 'AttemptFault'

  constructor(
    readonly reason: 'invalid data' | 'invalid result' | 'result too large' | 'handler timed out',
    message: string,
  ) {
    super(message)
  }
}
