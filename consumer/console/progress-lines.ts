import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { type Problem, ProblemError, problemDocument } from '../../shared/http/problem.ts'
import type { Logger } from '../../shared/service/logger.ts'
import type { Budget } from './scan.ts'

/** How far a search is. */
export const Progress = Type.Object({
  searched: Type.Integer({ minimum: 0, description: 'Offsets so far.' }),
  of: Type.Integer({ minimum: 0, description: 'Offsets that are to be searched; more may come to it.' }),
  seconds: Type.Number(),
})
export type Progress = Static<typeof Progress>

export const lineOf = (result: TSchema) =>
  Type.Union(
    [
      Type.Object({ progress: Progress }),
      Type.Object({ result }),
      Type.Object({ problem: Type.Unsafe({ $ref: '#/components/schemas/Problem' }) }),
    ],
    { description: 'One line. The last has the result or the problem.' },
  )

/** How often progress is told. */
const TOLD_EVERY_MS = 200

type WithBudget = <T>(
  signal: AbortSignal,
  work: (budget: Budget) => Promise<T>,
  onProgress?: (budget: Budget) => void,
) => Promise<T>

/** Lines of JSON: progress while the log is searched, then the result or the problem. */
export function progressLines<T>(
  request: Request,
  work: (budget: Budget) => Promise<T>,
  demand: (result: T) => T,
  withBudget: WithBudget,
  log: Logger,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const gone = new AbortController()
  return new ReadableStream<Uint8Array>({
    async start(controller) {
      const begunMs = performance.now()
      let toldMs = begunMs
      const line = (value: unknown): void => controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`))
      const tell = (budget: Budget): void => {
        const nowMs = performance.now()
        if (nowMs - toldMs < TOLD_EVERY_MS || gone.signal.aborted) return
        toldMs = nowMs
        const seconds = Number(((nowMs - begunMs) / 1000).toFixed(1))
        line({ progress: { searched: budget.passed, of: budget.wanted, seconds } })
      }
      try {
        line({ result: demand(await withBudget(AbortSignal.any([request.signal, gone.signal]), work, tell)) })
      } catch (error) {
        if (gone.signal.aborted || request.signal.aborted) return
        if (!(error instanceof ProblemError)) log.error({ err: error }, 'a search failed unexpectedly')
        const problem: Problem =
          error instanceof ProblemError
            ? error.problem
            : { kind: 'internal', detail: 'The service failed; its log says why.' }
        line({ problem: problemDocument(problem) })
      }
      controller.close()
    },
    cancel: () => gone.abort(),
  })
}
