import type { Area, Check } from '../checks/check.ts'
import { type ControlPlane, startControlPlane } from './control-plane.ts'

/** What a real API server says to the charts: nothing is refused, and nothing is warned of. No node is needed. */

let started: ControlPlane | undefined

const cluster = async (say: (progress: string) => void): Promise<ControlPlane> => {
  started ??= await startControlPlane(say)
  return started
}

const answers: Check = {
  name: 'API server answers',
  counts: 'kinds',
  async run(say) {
    const { kubectl } = await cluster(say)
    const { output, errors, exitCode } = await kubectl(['api-resources', '--no-headers'])
    return exitCode === 0 ? { passed: output.trim().split('\n').length, faults: [] } : { passed: 0, faults: [errors] }
  },
}

export const apiServer: Area = {
  name: 'api server',
  checks: [answers],
  end: async () => await started?.stop(),
}
