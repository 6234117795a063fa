/** Implements LeadershipService.Campaign: a program that leads a scope through this node. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  CampaignState,
  type LeadershipServiceCampaignRequest,
  type LeadershipServiceCampaignResponse,
  LeadershipServiceCampaignResponseSchema,
} from "../../../gen/waymark/control/v1/leadership_pb.js";
import type { CampaignGrant, CampaignSink } from "../../control/leadership/campaigns.ts";
import { parseScope } from "../../control/leadership/scope.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { AnswerSink, CallContext, MethodHandler, RequestListener } from "../service.ts";
import { StreamLimit } from "../stream-limit.ts";
import { fenceOf } from "./leader-message.ts";
import type { LeadershipSource } from "./source.ts";

/** Maximum number of campaigns of all programs together. */
const MAX_CAMPAIGNS = 1000;

export interface CampaignParts {
  readonly source: LeadershipSource;
  /** The id of this node. */
  readonly servedBy: string;
  readonly leaseMs: number;
  /** Scopes for which this node itself is a candidate. */
  readonly ownScopes: readonly string[];
  /** Throws if the caller cannot register in the namespace. `field` is the field of the request that contains it. */
  readonly checkNamespace: (caller: Caller, namespace: string, field: string) => void;
}

export function campaignHandler(parts: CampaignParts): MethodHandler {
  const limit = new StreamLimit("campaigns", MAX_CAMPAIGNS);
  const open = (answers: AnswerSink<LeadershipServiceCampaignResponse>, { caller }: CallContext) =>
    new CampaignStream({ ...parts, limit }, answers, caller);
  const answerOne = () => {
    throw new WaymarkError("unimplemented", "a node with read workers accepts no campaigns: set node.workers = 0, or use another node");
  };
  return { kind: "bidi_streaming", open, answerOne };
}

type CampaignStreamParts = CampaignParts & { readonly limit: StreamLimit };

class CampaignStream implements RequestListener<LeadershipServiceCampaignRequest> {
  readonly #parts: CampaignStreamParts;
  readonly #answers: AnswerSink<LeadershipServiceCampaignResponse>;
  readonly #caller: Caller;
  readonly #campaign: CampaignSink = (grant) => this.#answer(grant);
  /** Set by the first message. */
  #program: { readonly scope: string; readonly namespace: string; readonly holderId: string } | undefined;
  /** Stops counting the campaign. Set by the first permitted message. */
  #stopCounting: (() => void) | undefined;
  #sentMs = 0n;
  #lastGrant: CampaignGrant | undefined;
  /** Set while the program has the time to resign before the node ends the stream. */
  #cancelLeave: (() => void) | undefined;

  constructor(parts: CampaignStreamParts, answers: AnswerSink<LeadershipServiceCampaignResponse>, caller: Caller) {
    this.#parts = parts;
    this.#answers = answers;
    this.#caller = caller;
  }

  message(request: LeadershipServiceCampaignRequest): void {
    const { source, checkNamespace, limit } = this.#parts;
    this.#program ??= this.#named(request);
    const { scope, namespace, holderId } = this.#program;
    if (request.scope !== "" && request.scope !== scope) throw invalid("scope", `must be ${scope}, as in the first message`);
    // The policy can have changed since the last message.
    checkNamespace(this.#caller, namespace, "scope");
    this.#stopCounting ??= limit.open(this.#caller);
    this.#sentMs = request.sentMs;
    if (request.resign) {
      const number = this.#lastGrant?.leader.fence.number;
      if (number !== undefined) source.input({ kind: "retired", scope, number });
      this.#answers.end();
    } else if (this.#cancelLeave !== undefined) this.#answer(undefined);
    else source.input({ kind: "heartbeat", campaign: this.#campaign, scope, holderId });
  }

  halfClosed(): void {
    this.#answers.end();
  }

  /** Ends the campaign immediately. A program that leads the scope has the time of its last grant to resign. */
  leave(error: WaymarkError): void {
    this.#parts.source.input({ kind: "ended", campaign: this.#campaign });
    if (this.#lastGrant === undefined) this.#answers.fail(error);
    else this.#cancelLeave = later(() => this.#answers.fail(error), this.#lastGrant.validForMs);
  }

  close(): void {
    this.#cancelLeave?.();
    this.#stopCounting?.();
    this.#parts.source.input({ kind: "ended", campaign: this.#campaign });
  }

  #named({ scope, holderId }: LeadershipServiceCampaignRequest) {
    const { ownScopes, servedBy } = this.#parts;
    const { kind, namespace } = parseScope(scope);
    if (kind !== "custom") throw invalid("scope", `${scope} is led by nodes; programs can lead custom/<namespace>/<name>`);
    if (ownScopes.includes(scope)) throw invalid("scope", `${scope} is in leadership.scopes of this node, which leads it itself`);
    const name = holderId || this.#caller.principal.slice(0, 256) || `program-${randomUUID().slice(0, 8)}`;
    if (name === servedBy) throw invalid("holder_id", "is the id of this node");
    return { scope, namespace, holderId: name };
  }

  #answer(grant: CampaignGrant | undefined): void {
    this.#lastGrant = grant ?? this.#lastGrant;
    const { holderId = "" } = this.#program ?? {};
    const common = { holderId, sentMs: this.#sentMs, heartbeatInterval: durationFromMs(Math.floor(this.#parts.leaseMs / 3)) };
    const granted = grant && {
      state: CampaignState.LEADER,
      fence: fenceOf(grant.leader.fence),
      term: BigInt(grant.leader.term),
      validFor: durationFromMs(grant.validForMs),
    };
    const message = { state: CampaignState.CANDIDATE, ...common, ...granted };
    if (this.#answers.send(create(LeadershipServiceCampaignResponseSchema, message))) return;
    // The heartbeats of a program that does not read its answers wait, so that the answers do not fill the memory.
    this.#answers.pause();
    this.#answers.onceRoomy(() => this.#answers.resume());
  }
}
