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
import { invalid, type WaymarkError } from "../../lib/errors.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { type HeartbeatCall, type HeartbeatGate, type HeartbeatListener, heartbeatHandler } from "../heartbeat-stream.ts";
import type { MethodHandler } from "../service.ts";
import { fenceOf } from "./leader-message.ts";
import type { LeadershipSource } from "./source.ts";

/** Maximum number of campaigns of all programs together. */
const MAX_CAMPAIGNS = 1000;

export interface CampaignParts {
  readonly gate: HeartbeatGate;
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
  return heartbeatHandler({ what: "campaigns", max: MAX_CAMPAIGNS, gate: parts.gate }, (call) => new CampaignStream(parts, call));
}

class CampaignStream implements HeartbeatListener<LeadershipServiceCampaignRequest> {
  readonly #call: HeartbeatCall<LeadershipServiceCampaignResponse>;
  readonly #parts: CampaignParts;
  readonly #campaign: CampaignSink = (grant) => this.#grant(grant);
  /** Set by the first message. */
  #program: { readonly scope: string; readonly namespace: string; readonly holderId: string } | undefined;
  #sentMs = 0n;
  #lastGrant: CampaignGrant | undefined;
  /** Set while the program has the time to resign before the node ends the stream. */
  #cancelLeave: (() => void) | undefined;

  constructor(parts: CampaignParts, call: HeartbeatCall<LeadershipServiceCampaignResponse>) {
    this.#call = call;
    this.#parts = parts;
  }

  message(request: LeadershipServiceCampaignRequest): void {
    const { source, checkNamespace } = this.#parts;
    this.#program ??= this.#named(request);
    const { scope, namespace, holderId } = this.#program;
    if (request.scope !== "" && request.scope !== scope) throw invalid("scope", `must be ${scope}, as in the first message`);
    // The policy can have changed since the last message.
    checkNamespace(this.#call.caller, namespace, "scope");
    this.#call.permitted();
    this.#sentMs = request.sentMs;
    if (request.resign) {
      const number = this.#lastGrant?.leader.fence.number;
      if (number !== undefined) source.input({ kind: "retired", scope, number });
      this.#call.end();
    } else if (this.#cancelLeave !== undefined) this.#grant(undefined);
    else source.input({ kind: "heartbeat", campaign: this.#campaign, scope, holderId });
  }

  /** Ends the campaign immediately. A program that leads the scope has the time of its last grant to resign. */
  leave(error: WaymarkError): void {
    this.#parts.source.input({ kind: "ended", campaign: this.#campaign });
    if (this.#lastGrant === undefined) this.#call.fail(error);
    else this.#cancelLeave = later(() => this.#call.fail(error), this.#lastGrant.validForMs);
  }

  standDown(error: WaymarkError): void {
    if (this.#cancelLeave === undefined) this.leave(error);
  }

  over(): void {
    this.#cancelLeave?.();
    this.#parts.source.input({ kind: "ended", campaign: this.#campaign });
  }

  #named({ scope, holderId }: LeadershipServiceCampaignRequest) {
    const { ownScopes, servedBy } = this.#parts;
    const { kind, namespace } = parseScope(scope);
    if (kind !== "custom") throw invalid("scope", `${scope} is led by nodes; programs can lead custom/<namespace>/<name>`);
    if (ownScopes.includes(scope)) throw invalid("scope", `${scope} is in leadership.scopes of this node, which leads it itself`);
    const name = holderId || this.#call.caller.principal.slice(0, 256) || `program-${randomUUID().slice(0, 8)}`;
    if (name === servedBy) throw invalid("holder_id", "is the id of this node");
    return { scope, namespace, holderId: name };
  }

  #grant(grant: CampaignGrant | undefined): void {
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
    this.#call.answer(create(LeadershipServiceCampaignResponseSchema, message));
  }
}
