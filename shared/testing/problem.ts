import { type Problem, ProblemError } from '../http/problem.ts'

/** Why it was refused. @throws whatever else went wrong, and where nothing did */
export async function problemOf(run: () => unknown): Promise<Problem> {
  try {
    await run()
  } catch (error) {
    if (error instanceof ProblemError) return error.problem
    throw error
  }
  throw new Error('it was done')
}
