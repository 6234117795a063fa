/** Answers queries from services about the mesh, using the state of the fabric's machine. */
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import { isListed } from "../../fabric/membership/members.ts";
import type { PartialOrigin } from "../../fabric/replication/partial-origins.ts";
import { refOf } from "../../fabric/replication/version-vector.ts";
import type { MemberUpdate } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";
import type { PeerDirectory } from "../../services/discovery/answer-age.ts";
import type { LagReport, LinkLagRow, MemberDirectory, MemberExplanation, MemberRow, OriginLagRow } from "../../services/peers/members.ts";
import type { WriteEligibility } from "../core/write-eligibility.ts";
import { fabricOf, type NodeMachine } from "../core.ts";
import type { NodeNotice } from "../core-io.ts";

/** How long an age is cached, in ms. Every query needs the age, which changes slowly. */
const AGE_MS = 50;

/** The parts of a joined node that this file reads. */
export interface JoinedCore {
  readonly identity: { readonly nodeId: string };
  readonly machine: Pick<NodeMachine, "ageMs" | "fabric" | "heardWallMs" | "readiness" | "writeEligibility">;
  readonly replica: Pick<Replica, "origins">;
}

export function peerDirectory(core: JoinedCore): PeerDirectory {
  const { nodeId } = core.identity;
  const { machine } = core;
  let [readMonoMs, ageMs, wasReady] = [Number.NEGATIVE_INFINITY, 0, false];
  return {
    isWhole: () => fabricOf(core).isWhole,
    hasPeers: () => fabricOf(core).hasClusterPeers,
    ageMs: (time) => {
      // The cached age increases over time, so it is never lower than the true age. The cached age is discarded when the node becomes ready, because
      // the age before that may be a year.
      if (time.monoMs - readMonoMs < AGE_MS && machine.readiness.isReady === wasReady)
        return ageMs === 0 ? 0 : ageMs + time.monoMs - readMonoMs;
      readMonoMs = time.monoMs;
      wasReady = machine.readiness.isReady;
      ageMs = machine.ageMs(time);
      return ageMs;
    },
    unreachable: (time) => fabricOf(core).unreachable(time),
    presence: (nodeIdToFind, time) => {
      if (nodeIdToFind === nodeId) return { status: "alive", lastSeenWallMs: time.wallMs };
      const status = fabricOf(core).membership.find(nodeIdToFind)?.status;
      if (status === undefined || !isListed(status)) return undefined;
      return { status, lastSeenWallMs: machine.heardWallMs(nodeIdToFind) ?? time.wallMs };
    },
  };
}

/** The driver, which reports changed members. */
interface MemberChangeSource {
  follow(follower: (notice: NodeNotice) => void): () => void;
}

export class FabricPeers implements MemberDirectory {
  readonly #core: JoinedCore;
  readonly #driver: MemberChangeSource;

  constructor(core: JoinedCore, driver: MemberChangeSource) {
    this.#core = core;
    this.#driver = driver;
  }

  members(time: Time): readonly MemberRow[] {
    const linked = this.#linked();
    return fabricOf(this.#core)
      .membership.members()
      .map((update) => this.#row(update, linked, time));
  }

  member(nodeId: string, time: Time): MemberRow | undefined {
    const update = fabricOf(this.#core).membership.find(nodeId);
    return update === undefined ? undefined : this.#row(update, this.#linked(), time);
  }

  story(nodeId: string, time: Time): MemberExplanation {
    const explained = fabricOf(this.#core).membership.explain(nodeId);
    if (explained === undefined) return { events: [], suspicionEndsWallMs: undefined, confirmedBy: [] };
    const { evidence, accusers, deadlineMonoMs } = explained;
    const suspicionEndsWallMs = deadlineMonoMs === undefined ? undefined : time.wallMs + (deadlineMonoMs - time.monoMs);
    return { events: evidence, suspicionEndsWallMs, confirmedBy: accusers.slice(1) };
  }

  lag(time: Time): LagReport {
    const { machine } = this.#core;
    const fabric = fabricOf(this.#core);
    const { reason, detail } = fabric.readiness.read(time);
    const protectedClusters = fabric.lifecycle.protectedClusters();
    const partial = fabric.replication.notWhole();
    const fault = machine.writeEligibility.fault || (fabric.readiness.isReady && !machine.readiness.isReady ? POLICY_AWAITED : "");
    const parts = [
      ...(fault === "" ? [] : [fault]),
      detailOf(detail, protectedClusters),
      ...(partial.length > 0 ? [partialText(partial)] : []),
    ];
    return {
      // `/readyz` covers more than the fabric: it also covers the clock, other process instances and the policy.
      isReady: machine.readiness.isServing,
      isCaughtUp: partial.length === 0 && (reason === "caught_up" || reason === "alone"),
      isProtected: protectedClusters.length > 0,
      detail: parts.join("; "),
      ageMs: machine.ageMs(time),
      origins: this.#origins(new Map(partial.map((row) => [row.id, row]))),
      links: fabric.links().map((row): LinkLagRow => {
        const { link, hello, state, isIncoming, isCaughtUp, framesSent, framesReceived } = row;
        const lag = fabric.exchanges.find(link)?.lag(time);
        return {
          nodeId: hello?.nodeId ?? row.nodeId,
          address: hello?.address ?? "",
          state,
          isIncoming,
          isCaughtUp: isCaughtUp && lag?.isPartial !== true,
          framesSent,
          framesReceived,
          behind: lag?.behindSeqs ?? 0,
          behindMs: lag?.behindMs ?? 0,
        };
      }),
    };
  }

  follow(onChange: (nodeId: string) => void): () => void {
    return this.#driver.follow((notice) => {
      if (notice.kind === "memberChanged") onChange(notice.update.nodeId);
      else if (notice.kind === "linkChanged" || notice.kind === "memberForgotten") onChange(notice.nodeId);
      else if (notice.kind === "selfChanged") onChange(this.#core.identity.nodeId);
    });
  }

  /** Lists the origins that have records on this node, and the origins without any because a peer refused some of their records. */
  #origins(partial: Map<string, PartialOrigin>): readonly OriginLagRow[] {
    const { exchanges } = fabricOf(this.#core);
    const rows = [...this.#core.replica.origins.values()].map(({ id, nodeId, generation, life, through, floor, lacks }): OriginLagRow => {
      const { count: refused, why } = partial.get(id) ?? { count: 0, why: undefined };
      partial.delete(id);
      const whyPartial = why === "" ? "some of its records were refused" : (why ?? "");
      const known = Math.max(through, exchanges.knownSeqOf(id));
      return { nodeId, generation, life, through: lacks === undefined ? through : 0, floor, known, refused, whyPartial };
    });
    const absent = [...partial.values()].map(({ id, count, why }): OriginLagRow => {
      return { ...refOf(id), life: "unknown", through: 0, floor: 0, known: exchanges.knownSeqOf(id), refused: count, whyPartial: why };
    });
    return [...rows, ...absent];
  }

  #linked(): ReadonlySet<string> {
    return new Set(
      fabricOf(this.#core)
        .links()
        .flatMap(({ state, hello }) => (state === "up" && hello !== undefined ? [hello.nodeId] : [])),
    );
  }

  #row(update: MemberUpdate, linked: ReadonlySet<string>, time: Time): MemberRow {
    const { identity, machine } = this.#core;
    const { nodeId } = update;
    const isSelf = nodeId === identity.nodeId;
    return {
      ...update,
      lastSeenWallMs: isSelf ? time.wallMs : machine.heardWallMs(nodeId),
      rttMs: fabricOf(this.#core).membership.explain(nodeId)?.rttMs,
      isSelf,
      isLinked: linked.has(nodeId),
    };
  }
}

const POLICY_AWAITED = "waiting for the current policy of the cluster";

/** Returns one line for operators that shows readiness, and the clusters whose entries stay visible although their nodes are gone. */
function detailOf(detail: string, protectedClusters: readonly string[]): string {
  if (protectedClusters.length === 0) return detail;
  return `${detail}; entries of ${protectedClusters.join(", ")} stay visible, because many nodes disappeared at the same time`;
}

/** Returns the `/readyz` line about the fabric, and whether the fabric is ok. */
export function fabricReadiness(
  fabric: Fabric,
  { fabricFault: fault }: Pick<WriteEligibility, "fabricFault">,
  time: Time,
): { readonly ok: boolean; readonly detail: string } {
  const { isReady, detail } = fabric.readiness.read(time);
  const { alive, suspect, dead } = fabric.membership.counts();
  const others = alive + suspect;
  const none = dead === 0 ? "no other members" : `no other member is alive (${dead} dead)`;
  const parts = [...(fault === "" ? [] : [fault]), detailOf(detail, fabric.lifecycle.protectedClusters())];
  const members = others === 0 ? none : `${others} other member${others === 1 ? "" : "s"}`;
  parts.push(`${members}${suspect > 0 ? `, ${suspect} suspected` : ""}`);
  const partial = fabric.replication.notWhole();
  if (partial.length > 0) parts.push(partialText(partial));
  const refusers = fabric.membership.refusers();
  if (refusers.length > 0) parts.push(refusalText(refusers));
  const second = fabric.membership.secondAddress(time);
  if (second !== undefined) parts.push(`another node with this id at ${second} was rejected: stop it`);
  return { ok: isReady && fault === "", detail: parts.join("; ") };
}

/** Lists origins whose records are incomplete on this node, because it or a peer refused some of them. */
function partialText(partial: readonly PartialOrigin[]): string {
  const [first] = partial;
  const more = partial.length > 1 ? ` and ${partial.length - 1} more` : "";
  const count = first === undefined || first.count === 0 ? "" : `${first.count}: `;
  return `incomplete because records were refused: ${first?.id ?? ""} (${count}${first?.why ?? ""})${more}`;
}

/** Maximum number of node names in a detail text. */
const MAX_LISTED_REFUSERS = 3;

function refusalText(refusers: readonly { readonly nodeId: string; readonly why: string }[]): string {
  const listed = refusers.slice(0, MAX_LISTED_REFUSERS).map(({ nodeId, why }) => `${nodeId} (${why})`);
  const more = refusers.length > listed.length ? ` and ${refusers.length - listed.length} more` : "";
  return `this node's member record is rejected by ${listed.join(", ")}${more}`;
}
