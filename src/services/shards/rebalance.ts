/** Implements waymark.control.v1.RebalanceService: the plans of sets, their approval, and the times in which no shard moves. */
import { randomUUID } from "node:crypto";
import { create, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { RebalanceService } from "../../../gen/waymark/control/v1/rebalance_pb.js";
import type { ShardOrder } from "../../control/shards/io-types.ts";
import { proposedPlan } from "../../control/shards/orders.ts";
import { liveOwners } from "../../control/shards/rebalancing.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { durationMs } from "../contract.ts";
import { filterHash, listRoute, paged } from "../list-page.ts";
import type { CallContext, HandlersOf, ServiceDefinition, StreamSource } from "../service.ts";
import { orderOf, ShardAccess, type ShardAccessParts } from "./shard-access.ts";
import { frozenUntil, planMessage, rebalanceStateOf } from "./shard-messages.ts";
import { statusReader } from "./shard-watch.ts";
import type { ShardSource } from "./source.ts";

const { method } = RebalanceService;
type RequestOf<N extends keyof typeof method> = MessageShape<(typeof method)[N]["input"]>;

/** Maximum number of plans in a page, because a plan has up to 10,000 moves. */
const MAX_PLANS = 10;

export function rebalanceService(parts: ShardAccessParts): ServiceDefinition {
  const methods = new RebalanceMethods(parts);
  return {
    desc: RebalanceService,
    handlers: {
      listPlans: { kind: "unary", handle: (request: RequestOf<"listPlans">, context) => methods.listPlans(request, context) },
      propose: { kind: "unary", handle: (request: RequestOf<"propose">, context) => methods.propose(request, context) },
      approve: { kind: "unary", handle: (request: RequestOf<"approve">, context) => methods.approve(request, context) },
      cancel: { kind: "unary", handle: (request: RequestOf<"cancel">, context) => methods.cancel(request, context) },
      freeze: { kind: "unary", handle: (request: RequestOf<"freeze">, context) => methods.freeze(request, context) },
      watch: { kind: "server_streaming", open: (request: RequestOf<"watch">, context) => methods.watch(request, context) },
    } satisfies HandlersOf<typeof RebalanceService>,
    routes: [listRoute(method.listPlans, (request, context) => methods.listPlans(request, context))],
  };
}

class RebalanceMethods {
  readonly #source: ShardSource;
  readonly #access: ShardAccess;

  constructor(parts: ShardAccessParts) {
    this.#source = parts.source;
    this.#access = new ShardAccess(parts, "streams of plans");
  }

  listPlans({ namespace, states, limit, pageToken }: RequestOf<"listPlans">, context: CallContext) {
    const map = this.#access.visibleMap(namespace, context);
    const plans = this.#source.maps.plans(namespace);
    const found = [...plans].map(([id, { value }]) => ({ message: planMessage(id, value, map), createdWallMs: value.createdWallMs }));
    const matching = found.filter(({ message }) => states.length === 0 || states.includes(message.state));
    const hash = filterHash("rebalance plans", namespace, ...states);
    const newestFirst = ({ createdWallMs, message }: (typeof found)[number]) => `${Number.MAX_SAFE_INTEGER - createdWallMs} ${message.id}`;
    const { page, nextPageToken } = paged(matching, newestFirst, { limit: Math.min(limit || MAX_PLANS, MAX_PLANS), pageToken, hash });
    const [state, until] = [rebalanceStateOf(map, plans), frozenUntil(map, context.time)];
    return create(method.listPlans.output, { plans: page.map(({ message }) => message), state, frozenUntil: until, nextPageToken });
  }

  async propose(request: RequestOf<"propose">, context: CallContext) {
    const { namespace, dryRun, force: isForced } = request;
    const { maps } = this.#source;
    const map = this.#access.visibleMap(namespace, context);
    const order = { ...orderOf(request, context.caller), isForced };
    if (dryRun) {
      const live = liveOwners(maps.owners(namespace), () => false);
      const plan = proposedPlan(order, map, { plans: maps.plans(namespace), live }, context.time);
      if (!("moves" in plan)) throw new WaymarkError(plan.reason, plan.message);
      return create(method.propose.output, { plan: planMessage("", plan, map) });
    }
    const planId = `${namespace}/${map.epoch}-${randomUUID().slice(0, 8)}`;
    return create(method.propose.output, await this.#decide(context, { ...order, kind: "propose", planId }));
  }

  async approve(request: RequestOf<"approve">, context: CallContext) {
    const { planId, checksum } = request;
    const order = { ...orderOf(request, context.caller), kind: "approve", planId, checksum } as const;
    return create(method.approve.output, await this.#decide(context, order));
  }

  async cancel(request: RequestOf<"cancel">, context: CallContext) {
    const order = { ...orderOf(request, context.caller), kind: "cancel", planId: request.planId } as const;
    return create(method.cancel.output, await this.#decide(context, order));
  }

  async freeze(request: RequestOf<"freeze">, context: CallContext) {
    const forMs = request.duration === undefined ? 0 : Math.round(durationMs(request.duration));
    const untilWallMs = forMs === 0 ? 0 : context.time.wallMs + forMs;
    const order = { ...orderOf(request, context.caller), kind: "freeze", untilWallMs } as const;
    const done = forMs === 0 ? "not frozen" : `frozen until ${new Date(untilWallMs).toISOString()}`;
    const map = await this.#access.operate(context, order, done);
    return create(method.freeze.output, { frozenUntil: frozenUntil(map, context.time), epoch: BigInt(map.epoch) });
  }

  watch({ namespace }: RequestOf<"watch">, context: CallContext): StreamSource {
    this.#access.visibleMap(namespace, context, "watch");
    const changedStatus = statusReader(this.#source, namespace);
    return this.#access.stream(namespace, context, () => {
      const status = changedStatus();
      return status && toBinary(method.watch.output, create(method.watch.output, { status }));
    });
  }

  /** Makes a change of a plan. Returns the plan after the change. */
  async #decide(context: CallContext, order: ShardOrder & { readonly planId: string }) {
    const { namespace, planId } = order;
    const map = await this.#access.operate(context, order, `plan ${planId}`);
    const { value } = this.#source.maps.plans(namespace).get(planId) ?? {};
    return value && { plan: planMessage(planId, value, map) };
  }
}
