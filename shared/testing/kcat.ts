/** @throws Error that says how to install kcat, when it is missing */
export function kcatCommand(): string {
  const path = Bun.which('kcat')
  if (path === null) throw new Error('kcat reads the topics to judge a run, and is not there: apt-get install kcat')
  return path
}
