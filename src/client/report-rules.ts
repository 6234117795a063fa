/** What a server takes as the report of an instance: the rules of `EntryReport` and `LoadReport` in the contract, as far as a value can break them. */
import { HealthStatus, type LoadReport } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { EntryReport } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Violation } from "./request-error.ts";

/** The greatest value of each number; the least is 0. */
const MOST = { errorRate: ["error_rate", 1], latencyMs: ["latency_ms", 1e9], utilization: ["utilization", 1] } as const satisfies Partial<
  Record<keyof LoadReport, readonly [string, number]>
>;

/** The first field that no server would take, and its rule. */
export function reportProblem({ health, load }: EntryReport): Violation | undefined {
  if (HealthStatus[health] === undefined || health === HealthStatus.ORPHANED)
    return { field: "health", description: `${health} is no health that an instance may report` };
  if (load === undefined) return undefined;
  for (const name of ["errorRate", "latencyMs", "utilization"] as const) {
    const [field, most] = MOST[name];
    // NaN is in no range.
    if (!(load[name] >= 0 && load[name] <= most)) return { field: `load.${field}`, description: `${load[name]} is not from 0 to ${most}` };
  }
  return undefined;
}
