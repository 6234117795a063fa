/** The maps of shards that callers can see, and the operations that operators make on them. */
import type { ShardOrder } from "../../control/shards/io-types.ts";
import type { ShardMap } from "../../control/shards/maps.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { hiddenError, type OnDenied, type PolicySource } from "../../policy/set/verdict.ts";
import { runRecorded } from "../recorded-operation.ts";
import type { CallContext } from "../service.ts";
import { knownMap, type ShardSource } from "./source.ts";

/** An operation on a set, on a shard or on a plan, as recorded in the audit log. */
export interface ShardOperation {
  readonly action:
    | "mesh.apply_shards"
    | "mesh.approve_rebalance"
    | "mesh.cancel_rebalance"
    | "mesh.freeze_shards"
    | "mesh.propose_rebalance"
    | "mesh.set_shard";
  readonly requestId: string;
  readonly namespace: string;
  /** The scope of the shard. Empty for an operation on the set. */
  readonly scope: string;
  /** The change, the operator's reason and ticket, and whether the outcome is known. */
  readonly detail: string;
}

export interface ShardAccessParts {
  readonly source: ShardSource;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  /** Records an operation that was carried out, or whose outcome is unknown. */
  readonly onOperation: (caller: Caller, operation: ShardOperation) => void;
}

type Action = "query" | "watch";

const PENDING_RETRY_MS = 1000;

export class ShardAccess {
  readonly #parts: ShardAccessParts;

  constructor(parts: ShardAccessParts) {
    this.#parts = parts;
  }

  visibleMaps(context: CallContext): readonly ShardMap[] {
    const { maps } = this.#parts.source;
    const visible = maps.namespaces.filter((namespace) => this.#verdict(namespace, context).allowed);
    return visible.flatMap((namespace) => maps.map(namespace) ?? []);
  }

  /** Throws if the caller cannot see the namespace, or if it has no set. */
  visibleMap(namespace: string, context: CallContext, action: Action = "query"): ShardMap {
    const error = this.hidden(namespace, context, action);
    if (error !== undefined) throw error;
    return knownMap(this.#parts.source, namespace);
  }

  /** Returns the error for a caller that cannot see the namespace. */
  hidden(namespace: string, context: CallContext, action: Action): WaymarkError | undefined {
    const verdict = this.#verdict(namespace, context);
    if (verdict.allowed) return undefined;
    const { policies, onDenied } = this.#parts;
    if (policies.policy.isPending)
      return new WaymarkError("not_ready", "this node is waiting for its cluster's policy; retry later or on another node", {
        retryMs: PENDING_RETRY_MS,
      });
    onDenied(context.caller, { action, namespace, verdict });
    return hiddenError("namespace", namespace);
  }

  /** Makes a change, and records it in the audit log. */
  operate(
    { caller, requestId }: CallContext,
    order: ShardOrder,
    operation: Pick<ShardOperation, "action" | "detail"> & { scope?: string },
  ) {
    const { source, onOperation } = this.#parts;
    const { namespace, reason, ticket } = order;
    const detail = [operation.detail, reason, ticket === "" ? "" : `ticket ${ticket}`].filter((part) => part !== "").join("; ");
    const recorded = { scope: "", ...operation, requestId, namespace };
    return runRecorded(
      () => source.changeShards(order),
      (outcome) => onOperation(caller, { ...recorded, detail: detail + outcome }),
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
