/** Records every denial, every write and a sample of the reads in the audit log, and counts denials. */
import { type KeyText, keyLabel, namespaceOfKey } from "../catalog/record/record.ts";
import { scopeOf } from "../control/leadership/scope.ts";
import { METRICS, type Metrics } from "../lib/metrics/metrics.ts";
import { counted } from "../lib/text/visible-text.ts";
import { type AuditSink, accessEvent, joinSubjects, MAX_SUBJECTS, subjectOf } from "../policy/audit/record.ts";
import type { Caller } from "../policy/identity/caller.ts";
import type { OnDenied } from "../policy/set/verdict.ts";
import type { AcceptedOverride } from "../services/discovery/maintenance.ts";
import type { AcceptedWrite } from "../services/discovery/write-handlers.ts";
import type { IdentityOperation } from "../services/identity/bootstrap.ts";
import type { LeadershipOperation } from "../services/leadership/leadership.ts";
import type { OperatorRead } from "../services/operator-view.ts";
import type { PeerOperation } from "../services/peers/operations.ts";
import type { ShardOperation } from "../services/shards/shard-access.ts";

/**
 * Maximum number of namespaces per call that get audit records of their own. Entries of any further namespaces share records that have no namespace.
 */
const MAX_NAMESPACES = 16;

/** An accepted operation on entries. */
interface EntriesOperation {
  readonly action: string;
  readonly requestId: string;
  /** Subjects that each record lists in front of its entries. */
  readonly named: readonly string[];
  readonly keys: readonly KeyText[];
  /** Whether no entry changed. */
  readonly isNone: boolean;
  /** `entries`: the entry if there is only one, or the number of entries. */
  readonly detailOf: (entries: string) => string;
}

export class AccessLog {
  readonly #metrics: Metrics;
  readonly #sampleReads: number;
  /** Number of reads since the last recorded one. */
  #reads = 0;
  readonly #wallMs: () => number;
  readonly #audit: Pick<AuditSink, "record"> | undefined;
  readonly #ruleOf: (namespace: string) => string;

  /**
   * `sampleReads`: one in this many allowed reads is recorded; 0 records none. Without `audit`, only the metrics are updated. `ruleOf` returns the
   * pattern of the policy rule that allows writes in a namespace.
   */
  constructor(
    metrics: Metrics,
    options: {
      readonly sampleReads: number;
      readonly wallMs: () => number;
      readonly audit?: Pick<AuditSink, "record"> | undefined;
      readonly ruleOf: (namespace: string) => string;
    },
  ) {
    this.#metrics = metrics;
    this.#sampleReads = options.sampleReads;
    this.#wallMs = options.wallMs;
    this.#audit = options.audit;
    this.#ruleOf = options.ruleOf;
  }

  readonly onDenied: OnDenied = (caller, { action, namespace, verdict }) => {
    this.#metrics.inc("discovery_policy_denials_total", { action, reason: reasonLabel(verdict.reason) });
    this.#record(caller, { action, namespace, outcome: "denied", reason: verdict.reason, rule: verdict.rule, detail: "" });
  };

  /** Records an accepted write, with one record per namespace and per 100 subjects. */
  readonly onWrite = (caller: Caller, { action, requestId, leaseId, keys, count }: AcceptedWrite): void => {
    if (this.#audit === undefined) return;
    const lease = leaseId === "" ? "" : ` ${action === "register" ? "under" : "of"} lease ${leaseId}`;
    const named = leaseId === "" ? [] : [subjectOf("lease", leaseId)];
    const detailOf = (entries: string) => `${action}ed ${entries}${lease}`;
    this.#recordEntries(caller, { action, requestId, named, keys, isNone: count === 0, detailOf });
  };

  /** Records an accepted maintenance operation. An operation on a node is one record, which lists the node but not its entries. */
  readonly onMaintenance = (
    caller: Caller,
    { isOn, reason, untilMs }: { readonly isOn: boolean; readonly reason: string; readonly untilMs: number },
    { requestId, nodeId, keys, count }: AcceptedOverride,
  ): void => {
    if (this.#audit === undefined) return;
    const until = untilMs === 0 ? "without an end time" : `until ${new Date(untilMs).toISOString()}`;
    const tail = `${isOn ? ` ${until}` : ""}${reason === "" ? "" : `; ${reason}`}`;
    const prefix = `maintenance ${isOn ? "on" : "off"} for`;
    const event = { action: "maintenance", requestId } as const;
    if (nodeId !== "") {
      const detail = `${prefix} node ${nodeId}, ${counted(count, "entry", "entries")}${tail}`;
      this.#recordAllowed(caller, { ...event, namespace: "", subjects: subjectOf("node", nodeId), detail });
    } else this.#recordEntries(caller, { ...event, named: [], keys, isNone: false, detailOf: (entries) => `${prefix} ${entries}${tail}` });
  };

  /** Records an operation on a leader or on the control store. */
  readonly onLeadership = (caller: Caller, { action, requestId, scope, detail }: LeadershipOperation): void => {
    const subjects = scope === "" ? "" : subjectOf("scope", scope);
    this.#recordAllowed(caller, { action, requestId, namespace: scopeOf(scope)?.namespace ?? "", subjects, detail });
  };

  /** Records an operation on the shards of a namespace, or on a plan. */
  readonly onShards = (caller: Caller, { scope, ...operation }: ShardOperation): void => {
    this.#recordAllowed(caller, { ...operation, subjects: scope === "" ? "" : subjectOf("scope", scope) });
  };

  /** Records an operation on a node, whether it was carried out or refused. */
  readonly onPeer = (caller: Caller, { action, requestId, nodeId, ticket, refusal, detail }: PeerOperation): void => {
    const outcome = refusal === "" ? "allowed" : "denied";
    const event = { action, requestId, namespace: "", subjects: subjectOf("node", nodeId), reason: refusal, rule: "", ticket, detail };
    this.#record(caller, { ...event, outcome });
  };

  /** Records an act of the authority, or a request of a newcomer, whether it was granted or refused. */
  readonly onIdentity = (caller: Caller, { action, requestId, nodeId, refusal, detail }: IdentityOperation): void => {
    const outcome = refusal === "" ? "allowed" : "denied";
    const subjects = nodeId === "" ? "" : subjectOf("node", nodeId);
    this.#record(caller, { action, requestId, namespace: "", subjects, outcome, reason: refusal, rule: "", detail });
  };

  /** Records a zone transfer to a secondary DNS server, whether complete or aborted. */
  readonly onTransfer = (caller: Caller, zone: string, detail: string): void => {
    this.#recordAllowed(caller, { action: "transfer", namespace: "", subjects: subjectOf("zone", zone), detail });
  };

  /** Records a read in the operator's view. */
  readonly onOperatorView = (caller: Caller, read: OperatorRead): void => {
    this.#recordAllowed(caller, { ...read, action: "operator_view" });
  };

  /** HOT: runs per query. Only increments a counter, except for reads in the sample. */
  readonly onRead = (caller: Caller, namespace: string): void => {
    if (this.#sampleReads === 0 || ++this.#reads < this.#sampleReads) return;
    this.#reads = 0;
    this.#recordAllowed(caller, { action: "query", namespace, detail: "sampled" });
  };

  /** Writes separate records per namespace, so that a record's namespace is also the namespace of its entries. */
  #recordEntries(caller: Caller, { action, requestId, named, keys, isNone, detailOf }: EntriesOperation): void {
    const byNamespace = labelsByNamespace(keys);
    if (keys.length === 0) byNamespace.set("", []);
    for (const [namespace, all] of byNamespace) {
      const labels = isNone ? [] : all;
      const size = MAX_SUBJECTS - named.length;
      const parts = Math.max(1, Math.ceil(labels.length / size));
      const entries = labels.length === 1 ? (labels[0] ?? "") : counted(labels.length, "entry", "entries");
      const detail = detailOf(entries);
      const rule = namespace === "" ? "" : this.#ruleOf(namespace);
      for (let part = 0; part < parts; part++) {
        const subjects = joinSubjects([...named, ...labels.slice(part * size, (part + 1) * size)]);
        const place = parts === 1 ? "" : `; record ${part + 1} of ${parts}`;
        this.#recordAllowed(caller, { action, requestId, namespace, subjects, rule, detail: `${detail}${place}` });
      }
    }
  }

  #recordAllowed(
    caller: Caller,
    event: Omit<Parameters<typeof accessEvent>[1], "outcome" | "reason" | "rule"> & { readonly rule?: string },
  ): void {
    this.#record(caller, { rule: "", ...event, outcome: "allowed", reason: "" });
  }

  #record(caller: Caller, event: Parameters<typeof accessEvent>[1]): void {
    this.#audit?.record(accessEvent(caller, event, { wallMs: this.#wallMs() }));
  }
}

/** Groups the readable keys by namespace. The keys of all namespaces after the first 16 are grouped under the empty namespace. */
function labelsByNamespace(keys: readonly KeyText[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const key of keys) {
    const namespace = namespaceOfKey(key);
    const known = found.get(namespace) ?? (found.size < MAX_NAMESPACES ? undefined : found.get(""));
    if (known !== undefined) known.push(keyLabel(key));
    else found.set(found.size < MAX_NAMESPACES ? namespace : "", [keyLabel(key)]);
  }
  return found;
}

const REASONS = METRICS.discovery_policy_denials_total.labels.reason;

/** Returns the metric label of a denial reason. */
export function reasonLabel(reason: string): (typeof REASONS)[number] {
  return REASONS.find((label) => label === reason) ?? "other";
}
