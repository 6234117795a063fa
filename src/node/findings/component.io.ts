/** Evaluates the findings of a node every 5 s. */
import type { Settings } from "../../config/settings.ts";
import { GLOBAL_SCOPE } from "../../control/leadership/scope.ts";
import type { Time } from "../../lib/machine.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import type { ReadyCheck } from "../../server/http-routes.ts";
import type { MemberDirectory } from "../../services/peers/members.ts";
import type { NodeStatus } from "../../services/peers/status.ts";
import type { NodeComponent } from "../components.io.ts";
import type { LeadershipDriver } from "../control/leadership-driver.io.ts";
import { certificateEnds } from "../files/file-warnings.io.ts";
import type { NodeIdentityParts } from "../identity/component.io.ts";
import type { NodeCore } from "../rooms.io.ts";
import { differing, findingsOf, leaderOf, type NodeFacts } from "./findings.ts";

export interface FindingsOptions {
  readonly settings: Settings;
  readonly core: NodeCore;
  readonly control: LeadershipDriver;
  readonly peers: MemberDirectory;
  /** The lines of `/readyz`. */
  readonly readiness: (time: Time) => readonly ReadyCheck[];
  readonly own: Pick<NodeIdentityParts, "certificate" | "trust">;
  /** Why the audit log is not on disk. Empty if it is. */
  readonly auditFault: () => string;
  /** The digest of the settings that are the same on all nodes of a cluster. */
  readonly digest: string;
}

const INTERVAL_MS = 5000;

export class NodeFindings implements NodeComponent {
  readonly #options: FindingsOptions;
  #status: NodeStatus | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FindingsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#status = this.#evaluate();
    }, INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The status at the last evaluation. */
  get status(): NodeStatus {
    return (this.#status ??= this.#evaluate());
  }

  #evaluate(): NodeStatus {
    const { settings, core, control, peers, own, readiness, auditFault, digest } = this.#options;
    const { identity, machine, policies, journal } = core;
    const time = now();
    const faults = readiness(time).filter(({ ok }) => !ok);
    const lag = peers.lag(time);
    const store = control.store(time);
    const held = control.machine.leaders.get(GLOBAL_SCOPE);
    const leader = leaderOf(held, held && control.machine.expiryMs(held), time.monoMs);
    const certificates = certificateEnds(settings);
    const { isEnabled, inForce, degraded } = policies.status;
    const { isFailing, lastError } = journal.stats();
    const facts: NodeFacts = {
      nodeId: identity.nodeId,
      wallMs: time.wallMs,
      faults,
      lag,
      store,
      leader,
      certificates,
      issuerEndWallMs: own.certificate?.issuer?.facts.notAfterWallMs,
      followAgeMs: own.trust?.ageMs ?? 0,
      policyFault: degraded || machine.policyNotTaken,
      journalFault: isFailing ? `the journal refuses writes: ${lastError}` : "",
      auditFault: auditFault(),
      record: control.record(identity.nodeId)?.value,
      drain: machine.drain.progress,
      version: identity.version,
      configDigest: digest,
      peers: peers.members(time).filter(({ clusterId, isSelf }) => clusterId === identity.clusterId && !isSelf),
    };
    core.metrics.set("waymark_config_differs", {}, differing(facts).length);
    const ends = certificates.map(({ endWallMs }) => endWallMs);
    return {
      ready: machine.readiness.isServing && faults.length === 0,
      detail: faults.map(({ name, detail }) => `${name}: ${detail}`).join("; "),
      behind: Math.max(0, ...lag.links.map(({ behind }) => behind)),
      ageMs: lag.ageMs,
      certificateEndWallMs: ends.length === 0 ? undefined : Math.min(...ends),
      policyNumber: isEnabled ? (inForce?.number ?? 0) : 0,
      leader,
      store,
      findings: findingsOf(facts),
      evaluatedWallMs: time.wallMs,
      configDigest: digest,
    };
  }
}
