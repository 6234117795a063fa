/**
 * Programs that campaign for scopes through this node, in front of its leadership machine. The node is a candidate for a scope on behalf of one
 * program, and the other programs wait in the order in which they began. When the node holds the scope, it grants the scope to the program for a
 * limited time, which counts from the sending of the last message of the program.
 */
import type { Machine, Time } from "../../lib/machine.ts";
import type { LeadershipInput, LeadershipOutput } from "./io-types.ts";
import type { Leadership } from "./machine.ts";
import type { LeaderRecord } from "./records.ts";
import { VALIDITY } from "./session.ts";

/** Receives the answers of a campaign, and identifies it. The grant is undefined if the program does not lead the scope. */
export type CampaignSink = (grant: CampaignGrant | undefined) => void;

export type CampaignInput =
  /** A message of a program. The first one starts its campaign. */
  | { readonly kind: "heartbeat"; readonly campaign: CampaignSink; readonly scope: string; readonly holderId: string }
  /** The campaign ends. The program can act until its last grant is over. */
  | { readonly kind: "ended"; readonly campaign: CampaignSink }
  /** The program, whose campaign can have ended before, no longer acts under the fence with this number. */
  | { readonly kind: "retired"; readonly scope: string; readonly number: number };

/** The answer to a program: to its last message, or because its state has changed. */
export interface CampaignAnswer {
  readonly kind: "campaign";
  readonly campaign: CampaignSink;
  readonly grant: CampaignGrant | undefined;
}

/** The program leads the scope until `validForMs` after the sending of its last message. */
export interface CampaignGrant {
  readonly leader: LeaderRecord;
  readonly validForMs: number;
}

type Output = LeadershipOutput | CampaignAnswer;

export interface CampaignOptions {
  readonly machine: Leadership;
  readonly leaseMs: number;
}

interface Campaign {
  readonly id: CampaignSink;
  readonly scope: string;
  readonly holderId: string;
  /** Monotonic time (ms) of the last message. */
  heardMs: number;
  /** Monotonic time (ms) at which all grants are over. */
  grantedMs: number;
  /** Whether the last answer contained a grant. */
  isLeader: boolean;
}

export class Campaigns implements Machine<LeadershipInput | CampaignInput, Output> {
  readonly #options: CampaignOptions;
  readonly #campaigns = new Map<CampaignSink, Campaign>();
  /** The campaigns of each scope, in order. This node is a candidate on behalf of the first one. */
  readonly #queues = new Map<string, Campaign[]>();

  constructor(options: CampaignOptions) {
    this.#options = options;
  }

  handle(input: LeadershipInput | CampaignInput, time: Time, out: Output[]): void {
    if (input.kind === "heartbeat") {
      const campaign = this.#campaigns.get(input.campaign) ?? this.#begin(input, time, out);
      campaign.heardMs = time.monoMs;
      this.#answer(campaign, time, out);
      // A heartbeat changes the state of no other program.
      return;
    }
    if (input.kind === "ended") this.#end(input.campaign, time, out);
    else if (input.kind === "retired") this.#pass({ ...input, kind: "granted", untilMs: time.monoMs }, time, out);
    else this.#pass(input, time, out);
    for (const campaign of this.#campaigns.values()) if (time.monoMs >= this.#endMs(campaign)) this.#end(campaign.id, time, out);
    for (const [first] of this.#queues.values())
      if (first !== undefined && (this.#grant(first, time) !== undefined) !== first.isLeader) this.#answer(first, time, out);
  }

  nextDeadlineMs(): number {
    return this.#campaigns.values().reduce((next, each) => Math.min(next, this.#endMs(each)), this.#options.machine.nextDeadlineMs());
  }

  #begin({ campaign: id, scope, holderId }: Extract<CampaignInput, { readonly kind: "heartbeat" }>, time: Time, out: Output[]) {
    const campaign: Campaign = { id, scope, holderId, heardMs: 0, grantedMs: 0, isLeader: false };
    this.#campaigns.set(id, campaign);
    const queue = this.#queues.get(scope);
    if (queue !== undefined) queue.push(campaign);
    else {
      this.#queues.set(scope, [campaign]);
      this.#pass({ kind: "stand", scope, holderId }, time, out);
    }
    return campaign;
  }

  /** Monotonic time (ms) at which the campaign ends if there is no further message. */
  #endMs({ isLeader, grantedMs, heardMs }: Campaign): number {
    return isLeader ? grantedMs : heardMs + this.#options.leaseMs;
  }

  #answer(campaign: Campaign, time: Time, out: Output[]): void {
    const { id, scope, heardMs } = campaign;
    const grant = this.#grant(campaign, time);
    campaign.isLeader = grant !== undefined;
    if (grant !== undefined) {
      // The clock of the program can be up to 4 % slow, and the clock of this node up to 4 % fast. It is possible that the program has not received later answers.
      const untilMs = Math.max(campaign.grantedMs, heardMs + grant.validForMs / VALIDITY);
      campaign.grantedMs = untilMs;
      this.#pass({ kind: "granted", scope, number: grant.leader.fence.number, untilMs }, time, out);
    }
    out.push({ kind: "campaign", campaign: id, grant });
  }

  #grant(campaign: Campaign, time: Time): CampaignGrant | undefined {
    const { scope, heardMs } = campaign;
    const { machine, leaseMs } = this.#options;
    const held = this.#queues.get(scope)?.[0] === campaign ? machine.held(scope, time) : undefined;
    if (held === undefined) return undefined;
    const validForMs = Math.floor(Math.min(leaseMs * VALIDITY, held.untilMs - heardMs));
    return time.monoMs < heardMs + validForMs ? { leader: held.leader, validForMs } : undefined;
  }

  /** The machine gives up the scope only when the last grant is over. Then it is a candidate on behalf of the next program. */
  #end(id: CampaignSink, time: Time, out: Output[]): void {
    const campaign = this.#campaigns.get(id);
    if (campaign === undefined) return;
    const { scope, isLeader } = campaign;
    const queue = this.#queues.get(scope) ?? [];
    const at = queue.indexOf(campaign);
    queue.splice(at, 1);
    this.#campaigns.delete(id);
    if (isLeader) out.push({ kind: "campaign", campaign: id, grant: undefined });
    if (at > 0) return;
    this.#pass({ kind: "withdraw", scope, reason: "the program ended its campaign" }, time, out);
    const [next] = queue;
    if (next === undefined) this.#queues.delete(scope);
    else this.#pass({ kind: "stand", scope, holderId: next.holderId }, time, out);
  }

  #pass(input: LeadershipInput, time: Time, out: Output[]): void {
    const made: LeadershipOutput[] = [];
    this.#options.machine.handle(input, time, made);
    out.push(...made);
  }
}
