/** Implements waymark.control.v1.LeadershipService: the leaders that this node knows, their events, and the operations on them. */
import { create, type JsonObject, toJson } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type Leader,
  LeaderSessionSchema,
  LeadershipService,
  type LeadershipServiceListRequest,
  type LeadershipServiceListResponse,
  LeadershipServiceListResponseSchema,
  type LeadershipServiceRaiseStoreEpochRequest,
  LeadershipServiceRaiseStoreEpochResponseSchema,
  type LeadershipServiceResignRequest,
  LeadershipServiceResignResponseSchema,
  type LeadershipServiceSubscribeRequest,
} from "../../../gen/waymark/control/v1/leadership_pb.js";
import { checkScopePrefix, hasScopePrefix, parseScope } from "../../control/leadership/scope.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { timestampOf } from "../contract.ts";
import { filterHash, PAGE, type PageRequest, pageAnswer, paged, pageOf } from "../list-page.ts";
import { isUnavailable, runRecorded } from "../recorded-operation.ts";
import type { CallContext, HandlersOf, ServiceDefinition, StreamSource } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import { type CampaignParts, campaignHandler } from "./campaign.ts";
import { leaderMessage, storeMessage } from "./leader-message.ts";
import type { LeaderRow, LeadershipSource, SessionRow, StoreStatus } from "./source.ts";
import { LeaderSubscription } from "./subscription.ts";

/** An operation on a leader or on the control store, as recorded in the audit log. */
export interface LeadershipOperation {
  readonly action: "mesh.resign_leader" | "mesh.raise_store_epoch";
  readonly requestId: string;
  /** Empty for an operation on the store. */
  readonly scope: string;
  /** The operator's reason, and whether the outcome is known. */
  readonly detail: string;
}

export interface LeadershipParts extends CampaignParts {
  /** Largest number of open streams. */
  readonly maxSubscriptions: number;
  /** Calls `wake` several times a second until the returned function is called. */
  readonly tick: (wake: () => void) => () => void;
  /** Records an operation that was carried out, or whose outcome is unknown. */
  readonly onOperation: (caller: Caller, operation: LeadershipOperation) => void;
}

export function leadershipService(parts: LeadershipParts): ServiceDefinition {
  const limit = new StreamLimit("streams of leaders", parts.maxSubscriptions);
  return {
    desc: LeadershipService,
    handlers: {
      list: { kind: "unary", handle: (request: LeadershipServiceListRequest, { time }) => list(parts, request, time) },
      subscribe: {
        kind: "server_streaming",
        open: (request: LeadershipServiceSubscribeRequest, { caller }) => subscribe(parts, request, () => limit.open(caller)),
      },
      campaign: campaignHandler(parts),
      resign: { kind: "unary", handle: (request: LeadershipServiceResignRequest, context) => resign(parts, request, context) },
      raiseStoreEpoch: {
        kind: "unary",
        handle: (request: LeadershipServiceRaiseStoreEpochRequest, context) => raiseStoreEpoch(parts, request, context),
      },
    } satisfies HandlersOf<typeof LeadershipService>,
    routes: [
      {
        path: "/control/leaders",
        parameters: ["scope", ...PAGE],
        rpc: "list",
        answer: async ({ scope: scopePrefix = "", ...asked }, { time }) =>
          pageAnswer(await listJson(parts, { scopePrefix, ...pageOf(asked) }, time, "scope")),
      },
      {
        path: "/control/events/leadership",
        parameters: ["scopes", "include_renewed"],
        rpc: "subscribe",
        events: { id: "id", resume: "after_id", names: ["kind"] },
      },
      {
        path: "/control/lease-health",
        parameters: [],
        rpc: "list",
        answer: async (_asked, { time }) => {
          const {
            leaders: _leaders,
            nextPageToken: _token,
            ...page
          } = await listJson(parts, { scopePrefix: "", limit: 1, pageToken: "" }, time);
          return pageAnswer(page);
        },
      },
    ],
  };
}

/** `field` is the name of the prefix in errors. */
async function list(
  { source, servedBy }: LeadershipParts,
  { scopePrefix, limit, pageToken }: PageRequest & Pick<LeadershipServiceListRequest, "scopePrefix">,
  time: Time,
  field = "scope_prefix",
): Promise<LeadershipServiceListResponse> {
  if (scopePrefix !== "") checkScopePrefix(scopePrefix, field);
  const rows = source.leaders(time).filter(({ scope }) => hasScopePrefix(scope, scopePrefix));
  const hash = filterHash("leaders", scopePrefix);
  const { page, nextPageToken } = paged(rows, ({ scope }) => scope, { limit, pageToken, hash });
  const store = source.store(time);
  return create(LeadershipServiceListResponseSchema, {
    leaders: page.map(currentLeader),
    sessions: pageToken === "" ? (await sessionsIn(source, store)).map(wireSession) : [],
    store: storeMessage(store),
    nextPageToken,
    servedBy,
    generatedAt: timestampFromMs(time.wallMs),
  });
}

/** Returns no sessions if the store is unavailable. A store that does not answer now is not asked, because the answer would be late. */
async function sessionsIn(source: LeadershipSource, { ageMs }: StoreStatus): Promise<readonly SessionRow[]> {
  if (ageMs > 0) return [];
  try {
    return await source.sessions();
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    return [];
  }
}

function currentLeader({ scope, record, expiresWallMs }: LeaderRow): Leader {
  const leader = leaderMessage(scope, record);
  if (record?.session === "") leader.holderId = "";
  else if (expiresWallMs !== undefined) leader.expiresAt = timestampOf(Math.round(expiresWallMs));
  return leader;
}

function wireSession({ name, record }: SessionRow) {
  if (record === undefined) return create(LeaderSessionSchema, { name });
  const { nodeId, leaseMs, renewedWallMs } = record;
  return create(LeaderSessionSchema, { name, nodeId, lease: durationFromMs(leaseMs), renewedAt: timestampOf(renewedWallMs) });
}

async function listJson(...asked: Parameters<typeof list>): Promise<JsonObject> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
  return toJson(LeadershipServiceListResponseSchema, await list(...asked), { alwaysEmitImplicit: true }) as JsonObject;
}

function subscribe(
  { source, tick }: LeadershipParts,
  { scopes, includeRenewed: includesRenewed, afterId }: LeadershipServiceSubscribeRequest,
  open: () => () => void,
): StreamSource {
  scopes.forEach((scope, i) => checkScopePrefix(scope, `scopes[${i}]`));
  const after = afterId === 0n ? undefined : Number(afterId);
  return new LeaderSubscription({ source, scopes, includesRenewed, after, tick, onClose: open() });
}

async function resign(parts: LeadershipParts, { scope, reason }: LeadershipServiceResignRequest, context: CallContext) {
  parseScope(scope);
  await operate(parts, context, { action: "mesh.resign_leader", scope, detail: reason }, () => parts.source.resign(scope, reason));
  const row = parts.source.leaders(context.time).find((each) => each.scope === scope);
  return create(LeadershipServiceResignResponseSchema, row && { leader: currentLeader(row) });
}

async function raiseStoreEpoch(parts: LeadershipParts, { reason }: LeadershipServiceRaiseStoreEpochRequest, context: CallContext) {
  const act = { action: "mesh.raise_store_epoch", scope: "", detail: reason } as const;
  const epoch = await operate(parts, context, act, () => parts.source.raiseEpoch());
  return create(LeadershipServiceRaiseStoreEpochResponseSchema, { epoch: BigInt(epoch) });
}

/** Runs an operation, and records it in the audit log. */
function operate<T>(
  { onOperation }: LeadershipParts,
  { caller, requestId }: CallContext,
  operation: Omit<LeadershipOperation, "requestId">,
  run: () => Promise<T>,
): Promise<T> {
  return runRecorded(run, (outcome) => onOperation(caller, { ...operation, requestId, detail: operation.detail + outcome }));
}
