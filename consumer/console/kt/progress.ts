import type { Io } from './command.ts'

/** Where there is no terminal, a line of progress is written each time so much has passed. */
const LINE_EVERY_MS = 5_000

/** Tells how far something is: on a terminal in one line that is overwritten, elsewhere in a line each few seconds. Only on standard error. */
export class ProgressLine {
  #toldMs: number
  #isShown = false

  constructor(readonly io: Pick<Io, 'say' | 'overwrite' | 'nowMs'>) {
    this.#toldMs = io.nowMs()
  }

  tell(text: string): void {
    const { io } = this
    if (io.overwrite !== undefined) {
      io.overwrite(text)
      this.#isShown = true
    } else if (io.nowMs() - this.#toldMs >= LINE_EVERY_MS) {
      this.#toldMs = io.nowMs()
      io.say(text)
    }
  }

  /** Leaves nothing on a terminal. */
  end(): void {
    if (this.#isShown) this.io.overwrite?.('')
    this.#isShown = false
  }
}
