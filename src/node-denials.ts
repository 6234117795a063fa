/** Every denial is counted and, once an audit log is there, recorded. */
import type { Metrics } from "./lib/metrics.ts";
import type { OnDenied } from "./policy/eyes.ts";

export class Denials {
  readonly #metrics: Metrics;
  /** Where denials are recorded beside the count; set when the audit log is open. */
  record: OnDenied | undefined;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  readonly onDenied: OnDenied = (caller, denial) => {
    this.#metrics.inc("discovery_policy_denials_total", { action: denial.action, reason: labelOf(denial.verdict.reason) });
    this.record?.(caller, denial);
  };
}

const LABELS = [
  "owner_denied",
  "viewer_denied",
  "no_policy",
  "cutover_closed",
  "cutover_scope_denied",
  "summaries_disabled",
  "scope_denied",
] as const;

function labelOf(reason: string): (typeof LABELS)[number] | "other" {
  return LABELS.find((label) => label === reason) ?? "other";
}
