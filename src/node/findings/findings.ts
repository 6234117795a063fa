/** The findings of a node: faults of the node and of its peers, as one table of rules. `status`, the metrics and the dashboard show the same findings. */
import type { LeaderRecord } from "../../control/leadership/records.ts";
import type { DrainProgress } from "../../control/peers/drain.ts";
import type { PeerRecord } from "../../control/peers/records.ts";
import { ageText, DAY_MS, isKnownAge, MINUTE_MS } from "../../lib/duration.ts";
import { NEVER } from "../../lib/machine.ts";
import type { StoreStatus } from "../../services/leadership/source.ts";
import type { LagReport, MemberRow } from "../../services/peers/members.ts";
import type { Finding } from "../../services/peers/status.ts";

/** A certificate of the node, by the setting that names its file, or by its path in the data directory. */
export interface CertificateEnd {
  readonly setting: string;
  readonly endWallMs: number;
  readonly lifeMs: number;
  /** Whether the node renews the certificate itself, at an issuer. */
  readonly isRenewed: boolean;
}

/** The facts of a node about itself and its peers. */
export interface NodeFacts {
  readonly nodeId: string;
  readonly wallMs: number;
  /** The lines of `/readyz` that are not ok. */
  readonly faults: readonly { readonly name: string; readonly detail: string }[];
  readonly lag: Pick<LagReport, "ageMs" | "isProtected" | "origins">;
  readonly store: Pick<StoreStatus, "ageMs" | "fault" | "kind">;
  /** The node that leads `global-control`. Empty while no node leads. */
  readonly leader: string;
  readonly certificates: readonly CertificateEnd[];
  /** The end of the issuing certificate. Undefined if the node is no issuer. */
  readonly issuerEndWallMs: number | undefined;
  /** Age of the node's copy of revocations and callers' tokens. 0 if the node needs no copy. */
  readonly followAgeMs: number;
  /** Why the policy in force is not the one that should be. Empty if it is. */
  readonly policyFault: string;
  /** Why the journal refuses writes, and why the audit log is not on disk. Empty if there is no fault. */
  readonly journalFault: string;
  readonly auditFault: string;
  /** The operators' record of the node. */
  readonly record: Pick<PeerRecord, "desired" | "desiredReason" | "desiredWallMs"> | undefined;
  readonly drain: DrainProgress | undefined;
  readonly configDigest: string;
  readonly version: string;
  /** The other members of the cluster. */
  readonly peers: readonly Pick<MemberRow, "configDigest" | "nodeId" | "status" | "version">[];
}

/** Returns the evidence of a finding, once for each subject. The subject is the node itself unless it is given. */
type FindingRule = (facts: NodeFacts) => readonly { readonly evidence: string; readonly subject?: string }[];

/** A kind of finding. In the command, `%` is the subject and `%%` the node itself. */
interface FindingKind extends Pick<Finding, "command" | "runbook" | "severity"> {
  readonly find: FindingRule;
}

const critical = (runbook: string, command: string, find: FindingRule): FindingKind => ({ severity: "critical", runbook, command, find });
const warning = (runbook: string, command: string, find: FindingRule): FindingKind => ({ severity: "warning", runbook, command, find });

/** Data that is older than this (ms) is behind: the goal of replication is seconds. */
const BEHIND_MS = 30_000;
const STORE_AGE_MS = 10_000;
const CERTIFICATE_MS = 7 * DAY_MS;
/** The last share of a short life. */
const LAST_SHARE = 1 / 3;
/** A node renews its certificate at about half of its life, so less than this share is left only if the renewal is late. */
const LATE_SHARE = 1 / 4;
const ISSUER_MS = 30 * DAY_MS;
const FOLLOW_MS = 5 * MINUTE_MS;

const when = (isFound: boolean, evidence: string) => (isFound ? [{ evidence }] : []);

/** The kinds of findings, in the order in which they are shown: most severe first. */
const FINDINGS: Readonly<Record<string, FindingKind>> = {
  not_ready: critical("missing-nodes", "waymark discovery lag", ({ faults }) =>
    when(faults.length > 0, faults.map(({ name, detail }) => `${name}: ${detail}`).join("; ")),
  ),
  split_brain: critical("split-brain", "waymark mesh leaders status", ({ store: { fault } }) =>
    when(fault.startsWith("split brain"), fault),
  ),
  journal_failing: critical("disk", "waymark discovery lag", ({ journalFault }) => when(journalFault !== "", journalFault)),
  policy_fault: critical("policy-denials", "waymark discovery policy", ({ policyFault }) => when(policyFault !== "", policyFault)),
  certificate_expired: critical("certificates", "waymark status -o wide", (facts) => ending(facts, (leftMs) => leftMs <= 0)),
  store_unavailable: warning("store-unavailable", "waymark mesh leaders status", ({ store: { ageMs, fault } }) =>
    when(ageMs > STORE_AGE_MS, `the control store has not answered for ${ageText(ageMs)}: ${fault}`),
  ),
  no_leader: warning("no-leader", "waymark mesh leaders list", ({ store, leader }) =>
    when(store.kind === "etcd" && leader === "", "no node leads global-control"),
  ),
  behind: warning("slow-convergence", "waymark discovery lag --links", ({ lag: { ageMs } }) =>
    when(ageMs > BEHIND_MS && isKnownAge(ageMs), `its data may be ${ageText(ageMs)} old`),
  ),
  incomplete: warning("slow-convergence", "waymark discovery lag -o wide", ({ lag }) =>
    lag.origins.flatMap(({ nodeId, whyPartial }) => when(whyPartial !== "", `entries of ${nodeId} are missing: ${whyPartial}`)),
  ),
  entries_protected: warning("partition", "waymark discovery lag", ({ lag }) =>
    when(lag.isProtected, "many nodes vanished at the same time; their entries are kept visible"),
  ),
  audit_failing: warning("disk", "waymark audit list", ({ auditFault }) => when(auditFault !== "", auditFault)),
  certificate_ends: warning("certificates", "waymark status -o wide", (facts) =>
    ending(facts, (leftMs, { lifeMs, isRenewed }) => !isRenewed && leftMs > 0 && leftMs < Math.min(CERTIFICATE_MS, lifeMs * LAST_SHARE)),
  ),
  renewal_late: warning("certificates", "waymark cert list", (facts) =>
    ending(facts, (leftMs, { lifeMs, isRenewed }) => isRenewed && leftMs > 0 && leftMs < lifeMs * LATE_SHARE),
  ),
  issuer_ends: warning("certificates", "waymark ca status", ({ issuerEndWallMs: endWallMs, wallMs }) =>
    endWallMs === undefined
      ? []
      : when(endWallMs - wallMs < ISSUER_MS, `its issuing certificate ends at ${new Date(endWallMs).toISOString()}`),
  ),
  issuer_not_followed: warning("lost-issuer", "waymark ca status", ({ followAgeMs }) =>
    when(followAgeMs > FOLLOW_MS, `its copy of revocations and callers' tokens was last confirmed ${ageText(followAgeMs)} ago`),
  ),
  drain_stuck: warning("drain-stuck", "waymark mesh peers get %", ({ drain }) =>
    when(drain?.isStuck === true, `step ${drain?.step}: ${drain?.left.map(({ kind, count }) => `${count} ${kind}`).join(", ")} left`),
  ),
  cordoned_long: warning("drain-stuck", "waymark mesh peers get %", ({ record, wallMs }) => {
    const { desired = "active", desiredWallMs: sinceMs = wallMs, desiredReason } = record ?? {};
    return when(desired !== "active" && wallMs - sinceMs > DAY_MS, `${desired} since ${new Date(sinceMs).toISOString()}: ${desiredReason}`);
  }),
  peer_dead: warning("missing-nodes", "waymark mesh peers explain %", (facts) =>
    peersOf(facts, ({ status }) => status === "dead", "does not answer, and was declared dead"),
  ),
  peer_suspect: warning("missing-nodes", "waymark mesh peers explain %", (facts) =>
    peersOf(facts, ({ status }) => status === "suspect", "does not answer probes"),
  ),
  // The nodes with the rarer settings are named. In a tie, each side names the other.
  settings_differ: warning("settings-differ", "waymark mesh config diff % %%", (facts) => {
    const shares = Map.groupBy(comparable(facts), ({ configDigest }) => configDigest);
    const ownCount = 1 + (shares.get(facts.configDigest)?.length ?? 0);
    const isRarer = ({ configDigest }: NodeFacts["peers"][number]) => (shares.get(configDigest)?.length ?? 0) <= ownCount;
    return peersOf({ ...facts, peers: differing(facts) }, isRarer, `its settings differ from the settings of ${facts.nodeId}`);
  }),
};

const MAX_FINDINGS = 1000;

/** Returns the findings of a node, most severe first. */
export function findingsOf(facts: NodeFacts): readonly Finding[] {
  const all = Object.entries(FINDINGS).flatMap(([id, { find, severity, runbook, command }]) =>
    find(facts).map(({ evidence, subject = facts.nodeId }): Finding => {
      const full = command.replace("%%", facts.nodeId).replace("%", subject);
      return { id, severity, subject, evidence, runbook, command: full };
    }),
  );
  return all.slice(0, MAX_FINDINGS);
}

/** Returns the node that leads. Empty while no node leads, and from `expiryMs` (monotonic) on, when the session of the leader ends by the clock. */
export function leaderOf(held: Pick<LeaderRecord, "nodeId" | "session"> | undefined, expiryMs: number | undefined, monoMs: number): string {
  return held === undefined || held.session === "" || monoMs >= (expiryMs ?? NEVER) ? "" : held.nodeId;
}

/** Returns the peers whose settings differ from the settings of the node. */
export function differing(facts: Pick<NodeFacts, "configDigest" | "peers" | "version">): NodeFacts["peers"] {
  return comparable(facts).filter(({ configDigest }) => configDigest !== facts.configDigest);
}

/** Other versions can have other settings, and a node that does not announce a digest is not compared. */
function comparable({ peers, version }: Pick<NodeFacts, "peers" | "version">): NodeFacts["peers"] {
  return peers.filter((peer) => peer.status === "alive" && peer.version === version && (peer.configDigest ?? "") !== "");
}

function peersOf({ peers }: NodeFacts, isFound: (peer: NodeFacts["peers"][number]) => boolean, evidence: string) {
  return peers.filter(isFound).map(({ nodeId }) => ({ subject: nodeId, evidence }));
}

function ending({ certificates, wallMs }: NodeFacts, isFound: (leftMs: number, certificate: CertificateEnd) => boolean) {
  return certificates.flatMap((certificate) =>
    when(
      isFound(certificate.endWallMs - wallMs, certificate),
      `the certificate in ${certificate.setting} ends at ${new Date(certificate.endWallMs).toISOString()}`,
    ),
  );
}
