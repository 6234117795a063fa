/** The maps of shards that callers can see, and the operations that operators make on them. */
import type { ShardOrder } from "../../control/shards/io-types.ts";
import type { ShardMap } from "../../control/shards/maps.ts";
import { rowScope } from "../../control/shards/records.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { hiddenError, type OnDenied, type PolicySource } from "../../policy/set/verdict.ts";
import { runRecorded } from "../recorded-operation.ts";
import type { CallContext, StreamSource } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import { knownMap, type ShardSource } from "./source.ts";

/** The operations in the audit log, by their orders. */
const ACTIONS = {
  apply: "mesh.apply_shards",
  setShard: "mesh.set_shard",
  delete: "mesh.delete_shards",
  propose: "mesh.propose_rebalance",
  approve: "mesh.approve_rebalance",
  cancel: "mesh.cancel_rebalance",
  freeze: "mesh.freeze_shards",
} as const satisfies Record<ShardOrder["kind"], string>;

/** An operation on a set, on a shard or on a plan, as recorded in the audit log. */
export interface ShardOperation {
  readonly action: (typeof ACTIONS)[ShardOrder["kind"]];
  readonly requestId: string;
  readonly namespace: string;
  /** The scope of the shard. Empty for an operation on the set. */
  readonly scope: string;
  /** Pattern of the policy rule that allowed the operation. */
  readonly rule: string;
  /** The change, the operator's reason, and whether the outcome is known. */
  readonly detail: string;
  readonly ticket: string;
}

export interface ShardAccessParts {
  readonly source: ShardSource;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  /** Records an operation that was carried out, or whose outcome is unknown. */
  readonly onOperation: (caller: Caller, operation: ShardOperation) => void;
  /** Largest number of open streams of each service. */
  readonly maxWatches: number;
  /** Calls `wake` several times a second until the returned function is called, because heartbeats become due over time. */
  readonly tick: (wake: () => void) => () => void;
}

type Action = "query" | "watch";

/** Largest number of open streams of each service on a node. A stream costs little, because all streams of a namespace share their messages. */
export const MAX_SHARD_WATCHES = 10_000;
const PENDING_RETRY_MS = 1000;

export class ShardAccess {
  readonly #parts: ShardAccessParts;
  readonly #limit: StreamLimit;

  /** `streams` names the streams of the service in errors. */
  constructor(parts: ShardAccessParts, streams: string) {
    this.#parts = parts;
    this.#limit = new StreamLimit(streams, parts.maxWatches);
  }

  visibleMaps(context: CallContext): readonly ShardMap[] {
    const { maps } = this.#parts.source;
    return maps.namespaces.flatMap((namespace) => (this.#verdict(namespace, context).allowed ? (maps.map(namespace) ?? []) : []));
  }

  /** Throws if the caller cannot see the namespace, or if it has no set. */
  visibleMap(namespace: string, context: CallContext, action?: Action): ShardMap {
    this.demandVisible(namespace, context, action);
    return knownMap(this.#parts.source, namespace);
  }

  /** Throws if the caller cannot see the namespace. The rule is the same for reads and for operations. */
  demandVisible(namespace: string, context: CallContext, action: Action = "query"): void {
    const verdict = this.#verdict(namespace, context);
    const { policies, onDenied } = this.#parts;
    if (verdict.allowed) return;
    if (policies.policy.isPending)
      throw new WaymarkError("not_ready", "this node is waiting for its cluster's policy; retry later or on another node", {
        retryMs: PENDING_RETRY_MS,
      });
    onDenied(context.caller, { action, namespace, verdict });
    throw hiddenError("namespace", namespace);
  }

  /** Opens a stream, which ends when the caller can no longer see the namespace. `next` returns the next message, or undefined if there is none now. */
  stream(namespace: string, context: CallContext, next: (time: Time) => Uint8Array | undefined): StreamSource {
    const { source, tick } = this.#parts;
    const release = this.#limit.open(context.caller);
    let undo: readonly (() => void)[] = [release];
    return {
      endsAtDrain: true,
      attach: (wake) => {
        undo = [release, source.followShards((changed) => changed === namespace && wake()), tick(wake)];
      },
      pull: (time) => {
        const bytes = next(time);
        if (bytes !== undefined) this.visibleMap(namespace, context, "watch");
        return bytes;
      },
      close: () => {
        for (const each of undo) each();
      },
    };
  }

  /** Makes a change, and records it in the audit log. `done` describes the change. Returns the map after it. */
  async operate(context: CallContext, order: ShardOrder, done: string): Promise<ShardMap> {
    await this.record(context, order, done);
    return knownMap(this.#parts.source, order.namespace);
  }

  /** Makes a change, and records it in the audit log. */
  async record(context: CallContext, order: ShardOrder, done: string): Promise<void> {
    const { source, onOperation } = this.#parts;
    const { caller, requestId } = context;
    const { kind, namespace, reason, ticket } = order;
    this.demandVisible(namespace, context);
    if (kind !== "apply") knownMap(source, namespace);
    const detail = [done, reason].filter((part) => part !== "").join("; ");
    const scope = kind === "setShard" ? rowScope(namespace, order.id) : "";
    const { rule } = this.#verdict(namespace, context);
    const operation = { action: ACTIONS[kind], requestId, namespace, scope, rule, ticket };
    await runRecorded(
      () => source.changeShards(order),
      (outcome) => onOperation(caller, { ...operation, detail: detail + outcome }),
    );
  }

  #verdict(namespace: string, { caller }: CallContext) {
    return this.#parts.policies.policy.viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant });
  }
}

/** The part of an order that all requests have. */
export function orderOf(
  request: { readonly namespace: string; readonly expectedEpoch?: bigint; readonly reason: string; readonly ticket?: string },
  { principal }: Caller,
) {
  const { namespace, expectedEpoch = 0n, reason, ticket = "" } = request;
  return { namespace, expectedEpoch: Number(expectedEpoch) || undefined, actor: principal || "anonymous", reason, ticket };
}
