/** The findings of a node: faults of the node and of its peers, as one table of rules. `status`, the metrics and the dashboard show the same findings. */

import type { DrainProgress } from "../../control/peers/drain.ts";
import type { DesiredState } from "../../control/peers/records.ts";
import type { MemberStatus } from "../../fabric/wire/messages.ts";
import { DAY_MS, durationText } from "../../lib/duration.ts";
import { type Finding, SEVERITIES } from "../../services/peers/status.ts";

/** A member of the cluster of the node. */
export interface PeerFacts {
  readonly nodeId: string;
  readonly status: MemberStatus;
  /** Empty for a member that does not announce it. */
  readonly configDigest: string;
  readonly version: string;
}

/** The facts of a node about itself and its peers. */
export interface NodeFacts {
  readonly nodeId: string;
  readonly wallMs: number;
  /** The lines of `/readyz` that are not ok. */
  readonly faults: readonly { readonly name: string; readonly detail: string }[];
  /** Upper bound on the age of its data (ms). */
  readonly ageMs: number;
  /** Why records of other nodes are missing, by node. */
  readonly partial: readonly { readonly nodeId: string; readonly why: string }[];
  /** Whether many nodes vanished at the same time, and their entries are kept visible. */
  readonly isProtected: boolean;
  readonly store: { readonly isShared: boolean; readonly ageMs: number; readonly fault: string; readonly leader: string };
  /** The certificates of the node, by the setting that names the file, and when they end (wall ms). */
  readonly certificates: readonly { readonly setting: string; readonly endWallMs: number }[];
  /** Why the policy in force is not the one that should be. Empty if it is. */
  readonly policyFault: string;
  /** Why the journal refuses writes, and why the audit log is not on disk. Empty if there is no fault. */
  readonly journalFault: string;
  readonly auditFault: string;
  readonly desired: { readonly state: DesiredState; readonly sinceWallMs: number; readonly reason: string };
  readonly drain: DrainProgress | undefined;
  readonly configDigest: string;
  readonly version: string;
  readonly peers: readonly PeerFacts[];
}

type Row = Omit<Finding, "evidence" | "id" | "subject"> & {
  /** Returns the subjects of the finding, with the evidence. The subject is the node itself unless it is given. */
  readonly find: (facts: NodeFacts) => readonly { readonly evidence: string; readonly subject?: string }[];
};

/** Data that is older than this (ms) is behind: the goal of replication is seconds. */
const BEHIND_MS = 30_000;
const STORE_AGE_MS = 10_000;
const CERTIFICATE_MS = 7 * DAY_MS;

const when = (isFound: boolean, evidence: string) => (isFound ? [{ evidence }] : []);

/** The kinds of findings, in the order in which they are shown within a severity. `%` in a command is the subject. */
const FINDINGS: Readonly<Record<string, Row>> = {
  not_ready: {
    severity: "critical",
    runbook: "missing-nodes",
    command: "waymark discovery lag",
    find: ({ faults }) => when(faults.length > 0, faults.map(({ name, detail }) => `${name}: ${detail}`).join("; ")),
  },
  split_brain: {
    severity: "critical",
    runbook: "split-brain",
    command: "waymark mesh leaders status",
    find: ({ store }) => when(store.fault.startsWith("split brain"), store.fault),
  },
  journal_failing: {
    severity: "critical",
    runbook: "disk",
    command: "waymark discovery lag",
    find: ({ journalFault }) => when(journalFault !== "", journalFault),
  },
  policy_fault: {
    severity: "critical",
    runbook: "policy-denials",
    command: "waymark discovery policy",
    find: ({ policyFault }) => when(policyFault !== "", policyFault),
  },
  certificate_expired: {
    severity: "critical",
    runbook: "certificates",
    command: "waymark mesh peers get %",
    find: ({ certificates, wallMs }) => ending(certificates, (leftMs) => leftMs <= 0, wallMs),
  },
  store_unavailable: {
    severity: "warning",
    runbook: "store-unavailable",
    command: "waymark mesh leaders status",
    find: ({ store }) =>
      when(store.ageMs > STORE_AGE_MS, `the control store has not answered for ${durationText(store.ageMs)}: ${store.fault}`),
  },
  no_leader: {
    severity: "warning",
    runbook: "no-leader",
    command: "waymark mesh leaders list",
    find: ({ store }) => when(store.isShared && store.leader === "", "no node leads global-control"),
  },
  behind: {
    severity: "warning",
    runbook: "slow-convergence",
    command: "waymark discovery lag --links",
    find: ({ ageMs }) => when(ageMs > BEHIND_MS, `its data may be ${durationText(ageMs)} old`),
  },
  incomplete: {
    severity: "warning",
    runbook: "slow-convergence",
    command: "waymark discovery lag -o wide",
    find: ({ partial }) => partial.map(({ nodeId, why }) => ({ evidence: `entries of ${nodeId} are missing: ${why}` })),
  },
  entries_protected: {
    severity: "warning",
    runbook: "partition",
    command: "waymark discovery lag",
    find: ({ isProtected }) => when(isProtected, "many nodes vanished at the same time; their entries are kept visible"),
  },
  audit_failing: {
    severity: "warning",
    runbook: "disk",
    command: "waymark audit list",
    find: ({ auditFault }) => when(auditFault !== "", auditFault),
  },
  certificate_ends: {
    severity: "warning",
    runbook: "certificates",
    command: "waymark mesh peers get %",
    find: ({ certificates, wallMs }) => ending(certificates, (leftMs) => leftMs > 0 && leftMs < CERTIFICATE_MS, wallMs),
  },
  drain_stuck: {
    severity: "warning",
    runbook: "drain-stuck",
    command: "waymark mesh peers get %",
    find: ({ drain }) =>
      when(drain?.isStuck === true, `step ${drain?.step}: ${drain?.left.map(({ kind, count }) => `${count} ${kind}`).join(", ")} left`),
  },
  cordoned_long: {
    severity: "warning",
    runbook: "drain-stuck",
    command: "waymark mesh peers get %",
    find: ({ desired: { state, sinceWallMs, reason }, wallMs }) =>
      when(state !== "active" && wallMs - sinceWallMs > DAY_MS, `${state} since ${new Date(sinceWallMs).toISOString()}: ${reason}`),
  },
  peer_dead: {
    severity: "warning",
    runbook: "missing-nodes",
    command: "waymark mesh peers explain %",
    find: ({ peers }) =>
      peers.flatMap(({ nodeId, status }) =>
        status === "dead" ? { subject: nodeId, evidence: "does not answer, and was declared dead" } : [],
      ),
  },
  peer_suspect: {
    severity: "warning",
    runbook: "missing-nodes",
    command: "waymark mesh peers explain %",
    find: ({ peers }) =>
      peers.flatMap(({ nodeId, status }) => (status === "suspect" ? { subject: nodeId, evidence: "does not answer probes" } : [])),
  },
  settings_differ: {
    severity: "warning",
    runbook: "settings-differ",
    command: "waymark mesh config diff % %%",
    find: (facts) => differing(facts).map((subject) => ({ subject, evidence: `its settings differ from the settings of ${facts.nodeId}` })),
  },
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
  return SEVERITIES.flatMap((severity) => all.filter((each) => each.severity === severity)).slice(0, MAX_FINDINGS);
}

/** The live members whose settings differ from the settings of the node. Other versions can have other settings. */
function differing({ peers, configDigest, version }: Pick<NodeFacts, "configDigest" | "peers" | "version">): readonly string[] {
  const isOther = (peer: PeerFacts) =>
    peer.status === "alive" && peer.version === version && peer.configDigest !== "" && peer.configDigest !== configDigest;
  return peers.filter(isOther).map(({ nodeId }) => nodeId);
}

function ending(certificates: NodeFacts["certificates"], isFound: (leftMs: number) => boolean, wallMs: number) {
  return certificates.flatMap(({ setting, endWallMs }) =>
    isFound(endWallMs - wallMs) ? { evidence: `the certificate in ${setting} ends at ${new Date(endWallMs).toISOString()}` } : [],
  );
}
