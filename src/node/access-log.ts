/** Counts and records every denial, and records every write and a sample of the reads. */
import { counted } from "../lib/counted.ts";
import { METRICS, type Metrics } from "../lib/metrics/metrics.ts";
import { type AuditSink, accessEvent } from "../policy/audit/record.ts";
import type { Caller } from "../policy/identity/caller.ts";
import type { OnDenied } from "../policy/set/visibility.ts";

/** The most namespaces of one write that get a record each. */
const MAX_RECORDS = 16;

export class AccessLog {
  readonly #metrics: Metrics;
  readonly #sampleReads: number;
  /** Since the last one that was recorded. */
  #reads = 0;
  readonly #wallMs: () => number;
  readonly #audit: Pick<AuditSink, "record"> | undefined;

  /** `sampleReads`: one in this many allowed reads is recorded; 0 means none. Without `audit` it only counts. */
  constructor(
    metrics: Metrics,
    options: { readonly sampleReads: number; readonly wallMs: () => number; readonly audit?: Pick<AuditSink, "record"> | undefined },
  ) {
    this.#metrics = metrics;
    this.#sampleReads = options.sampleReads;
    this.#wallMs = options.wallMs;
    this.#audit = options.audit;
  }

  readonly onDenied: OnDenied = (caller, { action, namespace, verdict }) => {
    this.#metrics.inc("discovery_policy_denials_total", { action, reason: reasonLabel(verdict.reason) });
    this.#record(caller, { action, namespace, outcome: "denied", reason: verdict.reason, rule: verdict.rule, detail: "" });
  };

  /** A write that was taken, of `count` entries. An empty namespace stands for all that a lease has. Cost: a record for each distinct namespace. */
  readonly onWrite = (caller: Caller, action: "register" | "unregister", namespaces: readonly string[], count: number): void => {
    if (this.#audit === undefined) return;
    const distinct = [...new Set(namespaces)];
    const named = distinct[0] === "" ? "a lease" : counted(distinct.length, "namespace");
    const detail = `${counted(count, "entry", "entries")}; the call named ${named}`;
    for (const namespace of distinct.slice(0, MAX_RECORDS)) {
      this.#record(caller, { action, namespace, outcome: "allowed", reason: "", rule: "", detail });
    }
  };

  /** An order about the maintenance of `count` entries that was taken. An empty namespace stands for all of a node's entries. Cost: as of a write. */
  readonly onMaintenance = (
    caller: Caller,
    { isOn, reason, untilMs }: { readonly isOn: boolean; readonly reason: string; readonly untilMs: number },
    namespaces: readonly string[],
    count: number,
  ): void => {
    if (this.#audit === undefined) return;
    const until = untilMs === 0 ? "until it is ended" : `until ${new Date(untilMs).toISOString()}`;
    const what = isOn ? `on, ${until}` : "off";
    const distinct = [...new Set(namespaces)];
    const named = distinct[0] === "" ? "a node" : counted(distinct.length, "namespace");
    const detail = `${what}; ${counted(count, "entry", "entries")}; the call named ${named}${reason === "" ? "" : `; ${reason}`}`;
    for (const namespace of distinct.slice(0, MAX_RECORDS))
      this.#record(caller, { action: "maintenance", namespace, outcome: "allowed", reason: "", rule: "", detail });
  };

  /** A zone that DNS sent to a secondary, or a part of it. */
  readonly onTransfer = (caller: Caller, detail: string): void => {
    this.#record(caller, { action: "transfer", namespace: "", outcome: "allowed", reason: "", rule: "", detail });
  };

  /** HOT: per query. It only counts unless this read is one of the sample. */
  readonly onRead = (caller: Caller, namespace: string): void => {
    if (this.#sampleReads === 0 || ++this.#reads < this.#sampleReads) return;
    this.#reads = 0;
    this.#record(caller, { action: "query", namespace, outcome: "allowed", reason: "", rule: "", detail: "sampled" });
  };

  #record(caller: Caller, act: Parameters<typeof accessEvent>[1]): void {
    this.#audit?.record(accessEvent(caller, act, { wallMs: this.#wallMs() }));
  }
}

const REASONS = METRICS.discovery_policy_denials_total.labels.reason;

/** How the metrics name the reason of a denial. */
export function reasonLabel(reason: string): (typeof REASONS)[number] {
  return REASONS.find((label) => label === reason) ?? "other";
}
