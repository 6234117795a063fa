/** Implements waymark.control.v1.RebalanceService: the plans of sets, their approval, and the times in which no shard moves. */
import { randomUUID } from "node:crypto";
import { create, type MessageShape, toBinary, toJson } from "@bufbuild/protobuf";
import { RebalanceService, RebalanceState, type RebalanceStatus } from "../../../gen/waymark/control/v1/rebalance_pb.js";
import type { ShardOrder } from "../../control/shards/io-types.ts";
import { proposedPlan } from "../../control/shards/orders.ts";
import { liveOwners } from "../../control/shards/rebalancing.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { fnv64, hashHex } from "../../lib/hash64.ts";
import { durationMs, requestCheckOf } from "../contract.ts";
import { PAGE, paged, pageOf } from "../list-page.ts";
import type { CallContext, HandlersOf, RouteAnswer, RouteParameters, ServiceDefinition, StreamSource } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import { PlanFeed, planMessage } from "./plan-feed.ts";
import { orderOf, ShardAccess, type ShardAccessParts } from "./shard-access.ts";
import { frozenField, wordsIn } from "./shard-messages.ts";
import { NamespaceStream } from "./shard-watch.ts";
import { knownMap } from "./source.ts";

const { method } = RebalanceService;
type RequestOf<N extends keyof typeof method> = MessageShape<(typeof method)[N]["input"]>;

/** Maximum number of plans in a page, because a plan has up to 10,000 moves. */
const MAX_PLANS = 10;

export interface RebalanceParts extends ShardAccessParts {
  /** Largest number of open streams. */
  readonly maxWatches: number;
  /** Calls `wake` several times a second until the returned function is called. */
  readonly tick: (wake: () => void) => () => void;
}

export function rebalanceService(parts: RebalanceParts): ServiceDefinition {
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
    routes: [
      {
        path: "/control/rebalance-plans",
        parameters: ["namespace", "states", ...PAGE],
        rpc: "listPlans",
        answer: (asked, context) => methods.plansPage(asked, context),
      },
    ],
  };
}

class RebalanceMethods {
  readonly #parts: RebalanceParts;
  readonly #access: ShardAccess;
  readonly #limit: StreamLimit;
  readonly #feed: PlanFeed;

  constructor(parts: RebalanceParts) {
    this.#parts = parts;
    this.#access = new ShardAccess(parts);
    this.#limit = new StreamLimit("streams of plans", parts.maxWatches);
    this.#feed = new PlanFeed(parts.source);
  }

  listPlans({ namespace, states, limit, pageToken }: RequestOf<"listPlans">, context: CallContext) {
    const map = this.#access.visibleMap(namespace, context);
    const plans = this.#parts.source.maps.plans(namespace);
    const found = [...plans].map(([id, { value }]) => ({ message: planMessage(id, value, map), createdWallMs: value.createdWallMs }));
    const matching = found.filter(({ message }) => states.length === 0 || states.includes(message.state));
    const hash = hashHex(fnv64(`rebalance plans\0${namespace}\0${states.join(",")}`));
    const newestFirst = ({ createdWallMs, message }: (typeof found)[number]) => `${Number.MAX_SAFE_INTEGER - createdWallMs} ${message.id}`;
    const { page, nextPageToken } = paged(matching, newestFirst, { limit: Math.min(limit || MAX_PLANS, MAX_PLANS), pageToken, hash });
    const { state = RebalanceState.UNSPECIFIED } = this.#feed.status(namespace) ?? {};
    return create(method.listPlans.output, { plans: page.map(({ message }) => message), state, ...frozenField(map), nextPageToken });
  }

  plansPage({ namespace = "", states = "", ...asked }: RouteParameters, context: CallContext): RouteAnswer {
    const filter = { namespace, states: wordsIn(states, RebalanceState, "states") };
    const request = create(method.listPlans.input, { ...filter, ...pageOf(asked) });
    requestCheckOf(method.listPlans.input)(request);
    const page = toJson(method.listPlans.output, this.listPlans(request, context), { alwaysEmitImplicit: true });
    return { kind: "page", page };
  }

  async propose(request: RequestOf<"propose">, context: CallContext) {
    const { namespace, dryRun, force: isForced } = request;
    const { maps } = this.#parts.source;
    const map = knownMap(this.#parts.source, namespace);
    const order = { ...orderOf(request, context.caller), isForced };
    if (dryRun) {
      const live = liveOwners(maps.owners(namespace), () => false);
      const plan = proposedPlan(order, map, { plans: maps.plans(namespace), live }, context.time);
      if (!("moves" in plan)) throw new WaymarkError(plan.reason, plan.message);
      return create(method.propose.output, { plan: planMessage("", plan, map) });
    }
    const planId = `${namespace}/${map.epoch}-${randomUUID().slice(0, 8)}`;
    const plan = await this.#decide(context, { ...order, kind: "propose", planId }, "mesh.propose_rebalance");
    return create(method.propose.output, plan);
  }

  async approve(request: RequestOf<"approve">, context: CallContext) {
    const { planId, checksum } = request;
    const order = { ...orderOf(request, context.caller), kind: "approve", planId, checksum } as const;
    return create(method.approve.output, await this.#decide(context, order, "mesh.approve_rebalance"));
  }

  async cancel(request: RequestOf<"cancel">, context: CallContext) {
    const order = { ...orderOf(request, context.caller), kind: "cancel", planId: request.planId } as const;
    return create(method.cancel.output, await this.#decide(context, order, "mesh.cancel_rebalance"));
  }

  async freeze(request: RequestOf<"freeze">, context: CallContext) {
    const { namespace } = request;
    knownMap(this.#parts.source, namespace);
    const forMs = request.duration === undefined ? 0 : Math.round(durationMs(request.duration));
    const untilWallMs = forMs === 0 ? 0 : context.time.wallMs + forMs;
    const order = { ...orderOf(request, context.caller), kind: "freeze", untilWallMs } as const;
    const detail = forMs === 0 ? "not frozen" : `frozen until ${new Date(untilWallMs).toISOString()}`;
    await this.#access.operate(context, order, { action: "mesh.freeze_shards", detail });
    const map = knownMap(this.#parts.source, namespace);
    return create(method.freeze.output, { ...frozenField(map), epoch: BigInt(map.epoch) });
  }

  watch({ namespace }: RequestOf<"watch">, context: CallContext): StreamSource {
    this.#access.visibleMap(namespace, context, "watch");
    let sent: RebalanceStatus | undefined;
    const next = () => {
      const status = this.#feed.status(namespace);
      if (status === undefined || status === sent) return undefined;
      sent = status;
      return toBinary(method.watch.output, create(method.watch.output, { status }));
    };
    const { source, tick } = this.#parts;
    const hidden = () => this.#access.hidden(namespace, context, "watch");
    return new NamespaceStream({ source, namespace, next, hidden, tick, onClose: this.#limit.open(context.caller) });
  }

  /** Makes a change of a plan. Returns the plan after the change. */
  async #decide(
    context: CallContext,
    order: ShardOrder & { readonly planId: string },
    action: `mesh.${"approve" | "cancel" | "propose"}_rebalance`,
  ) {
    const { source } = this.#parts;
    const { namespace, planId } = order;
    knownMap(source, namespace);
    await this.#access.operate(context, order, { action, detail: `plan ${planId}` });
    const { value } = source.maps.plans(namespace).get(planId) ?? {};
    return value && { plan: planMessage(planId, value, knownMap(source, namespace)) };
  }
}
