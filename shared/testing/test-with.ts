import { test } from 'bun:test'

/**
 * A test that needs a program which not every developer has. Without the program it is skipped, with the reason in its name. Where CI is set, it runs and fails.
 * @param programs names of the program on PATH; one is enough
 */
export function testWith(
  programs: readonly string[],
  name: string,
  body: () => Promise<void>,
  timeoutMs: number,
): void {
  const isThere = programs.some((program) => Bun.which(program) !== null)
  if (isThere || process.env.CI) test(name, body, timeoutMs)
  else test.skip(`${name} (${programs.join(' or ')} is not on PATH)`, body)
}
