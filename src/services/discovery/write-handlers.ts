/** The write handlers of DiscoveryService: Register, Renew, KeepAlive, Unregister and SetMaintenance. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { EntryKey as WireKey } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type KeepAliveRequest,
  type RegisterRequest,
  type RegisterResponse,
  RegisterResponseSchema,
  type RenewRequest,
  RenewResponseSchema,
  type SetMaintenanceRequest,
  type UnregisterRequest,
  type UnregisterResponse,
  UnregisterResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { type EntryStamper, parseKey, parseLoad, type Stamp } from "../../catalog/entry/codec.ts";
import type { Health, KeyText } from "../../catalog/record/record.ts";
import type { CheckAdmission } from "../../discovery/checks/admission.ts";
import type { DnsNames } from "../../discovery/dns-names.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import type { RegisterResult } from "../../discovery/registrar/idempotent-answers.ts";
import type { EntryReport, RenewalResult } from "../../discovery/registrar/load-reports.ts";
import type { Registrar } from "../../discovery/registrar/registrar.ts";
import { invalid, rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import type { RefusedAct } from "../../policy/audit/record.ts";
import { type Caller, hasRole } from "../../policy/identity/caller.ts";
import { answeringEach } from "../answered-stream.ts";
import { checkAliases, durationMs } from "../contract.ts";
import type { CallContext, MethodHandler, NodeIdentity } from "../service.ts";
import { AnswerPositions } from "./answer-age.ts";
import { MaintenanceMethods, type MaintenanceServiceParts } from "./maintenance.ts";
import { keepAliveBytes, readKeepAliveRequest, readRegisterRequest } from "./response-bytes.ts";

export interface WriteParts
  extends Pick<
    MaintenanceServiceParts,
    "bounds" | "checkCaughtUp" | "checkWrites" | "confirmed" | "durable" | "maintain" | "onMaintenance"
  > {
  /** The identity that is added to each registered entry. */
  readonly identity: NodeIdentity;
  readonly registrar: Registrar;
  readonly reads: CatalogReads;
  readonly stamper: EntryStamper;
  readonly dnsNames: Pick<DnsNames, "isSingleLabel">;
  readonly checkAdmission: Pick<CheckAdmission, "check" | "checkEnabled">;
  /** Throws `not_ready` while another process uses this node's id. In that case, renewals must move to another node too. */
  readonly checkStart: () => void;
  /** Throws `draining` while operators want this node to accept no registrations. */
  readonly checkNew: () => void;
  readonly metrics: Metrics;
  /** Records an accepted write in the audit log. */
  readonly onWrite: (caller: Caller, write: AcceptedWrite) => void;
  /** Records in the audit log a write that was rejected for a reason other than policy. */
  readonly onRefused: (refusal: RefusedAct) => void;
}

/** A write in the form in which the audit log records it. */
export interface AcceptedWrite {
  readonly action: "register" | "unregister";
  readonly requestId: string;
  /** Empty when entries are unregistered without a lease. */
  readonly leaseId: string;
  /** The keys that changed. If none changed, the keys in the call. */
  readonly keys: readonly KeyText[];
  /** Number of keys that changed. */
  readonly count: number;
}

/** A registration that is staged but not yet durable. */
interface StagedRegistration {
  readonly registered: RegisterResult;
  readonly keys: readonly KeyText[];
}

/** Registration and unregistration for other services. */
export interface RegistrationWrites {
  /** Registers as `Register` does. `make` builds the request in the same turn in which it is staged, so no other registration can run in between. */
  register(make: () => RegisterRequest, context: CallContext): Promise<RegisterResponse>;
  unregister(request: UnregisterRequest, context: CallContext): Promise<UnregisterResponse>;
}

type WrittenHandlers = Readonly<Record<"keepAlive" | "register" | "renew" | "setMaintenance" | "unregister", MethodHandler>>;

export function writeHandlers(parts: WriteParts): { readonly handlers: WrittenHandlers; readonly writes: RegistrationWrites } {
  const methods = new WriteMethods(parts);
  const maintenance = new MaintenanceMethods(parts);
  const handlers: WrittenHandlers = {
    register: {
      kind: "unary",
      handle: (request: RegisterRequest, context) => methods.register(() => request, context),
      read: readRegisterRequest,
    },
    renew: { kind: "unary", handle: (request: RenewRequest, context) => methods.renew(request, context) },
    keepAlive: answeringEach((request: KeepAliveRequest, context) => methods.keepAlive(request, context), readKeepAliveRequest),
    unregister: { kind: "unary", handle: (request: UnregisterRequest, context) => methods.unregister(request, context) },
    setMaintenance: { kind: "unary", handle: (request: SetMaintenanceRequest, context) => maintenance.set(request, context) },
  };
  return { handlers, writes: methods };
}

class WriteMethods implements RegistrationWrites {
  readonly #parts: WriteParts;
  readonly #places: AnswerPositions;

  constructor(parts: WriteParts) {
    this.#parts = parts;
    this.#places = new AnswerPositions(parts.reads);
  }

  async register(make: () => RegisterRequest, context: CallContext): Promise<RegisterResponse> {
    return this.#answered(await this.#staged(make, context), context);
  }

  /** Stages the entries in a request. The entries are not durable yet. */
  async #staged(make: () => RegisterRequest, context: CallContext): Promise<StagedRegistration> {
    const { confirmed, checkWrites, checkNew, registrar, metrics } = this.#parts;
    try {
      await confirmed();
      checkWrites();
      const request = make();
      this.#checkCount(request.entries, "entries");
      try {
        checkNew();
      } catch (error) {
        // A refused client that reaches no other node is alive, so its entries stay.
        const keys = request.entries.flatMap(({ key }, i) => (key === undefined ? [] : this.#key(key, `entries[${i}].key`)));
        registrar.renewKeys(context.caller, keys, context.time);
        throw error;
      }
      const command = this.#command(request, context);
      const registered = registrar.register(context.caller, command, context.time);
      return { registered, keys: command.stampedEntries.map(({ key }) => key) };
    } catch (error) {
      metrics.inc("waymark_register_total", { outcome: "refused" });
      throw error;
    }
  }

  /**
   * HOT: this code keeps no reference to the request while it waits for the disk. Otherwise, garbage collections would copy each entry twice
   * (`bench/register.ts`).
   */
  async #answered({ registered, keys }: StagedRegistration, { caller, requestId }: Pick<CallContext, "caller" | "requestId">) {
    await this.#settled();
    this.#parts.onWrite(caller, { action: "register", requestId, leaseId: registered.leaseId, keys, count: keys.length });
    const { revision, cursor } = this.#places.now();
    const ttl = registered.ttlMs === undefined ? {} : { ttl: durationFromMs(registered.ttlMs) };
    return create(RegisterResponseSchema, { leaseId: registered.leaseId, revision: BigInt(revision), cursor, ...ttl });
  }

  async renew(request: RenewRequest, context: CallContext) {
    const { expiredLeaseIds, ttlMs } = this.#renew(request, context);
    await this.#parts.durable();
    const ttl = ttlMs === undefined ? {} : { ttl: durationFromMs(ttlMs) };
    return create(RenewResponseSchema, { expiredLeaseIds: [...expiredLeaseIds], ...ttl });
  }

  /** HOT: 200,000 leases a second. A renewal without reports does not create a promise. */
  keepAlive(request: KeepAliveRequest, context: CallContext) {
    const response = keepAliveBytes(this.#renew(request, context));
    const durable = request.reports.length === 0 ? undefined : this.#parts.durable();
    return durable === undefined ? response : durable.then(() => response);
  }

  async unregister(request: UnregisterRequest, context: CallContext): Promise<UnregisterResponse> {
    const { registrar } = this.#parts;
    const { leaseId } = request;
    if (leaseId === "" && request.keys.length === 0) throw invalid("lease_id", "set lease_id, keys, or both");
    this.#checkCount(request.keys, "keys");
    await this.#parts.confirmed();
    this.#parts.checkWrites();
    const keys = request.keys.map((key, i) => this.#key(key, `keys[${i}]`));
    const { caller, time, requestId } = context;
    // A key that is unknown on this node may be registered on another node. The entry would then remain although its removal was acknowledged.
    const removed =
      leaseId === ""
        ? registrar.unregisterKeys(caller, keys, time, this.#parts.checkCaughtUp)
        : registrar.unregisterLease(caller, leaseId, time, keys.length === 0 ? undefined : keys);
    await this.#parts.durable();
    const count = removed.length;
    this.#parts.onWrite(caller, { action: "unregister", requestId, leaseId, keys: count > 0 ? removed : keys, count });
    return create(UnregisterResponseSchema, { removed: count, revision: BigInt(this.#parts.reads.replica.revision) });
  }

  #command(request: RegisterRequest, { caller, time }: CallContext): Parameters<Registrar["register"]>[1] {
    const { stamper, registrar, dnsNames, checkAdmission, onRefused } = this.#parts;
    if (request.entries.length === 0) throw invalid("entries", "must have at least one entry");
    const ttlMs = request.ttl && durationMs(request.ttl);
    const stamp = this.#stamp(caller, time);
    const entryTtlMs = registrar.ttlOf(request.leaseId, ttlMs, request.staticLease);
    const ttl = entryTtlMs === undefined ? undefined : durationFromMs(Math.min(entryTtlMs, stamper.maxTtlMs));
    const isSingle = (alias: string) => dnsNames.isSingleLabel(alias);
    const stampedEntries = request.entries.map((entry, i) => {
      if (entry.ttl === undefined && ttl !== undefined) entry.ttl = ttl;
      if (entry.checks.length > 0) checkAdmission.checkEnabled(entry, i);
      if (entry.aliases.length > 0) checkAliases(entry, `entries[${i}].aliases`, caller, { isSingle, onRefused });
      return stamper.entryOf(entry, i, stamp);
    });
    if (stampedEntries.some(({ hasChecks }) => hasChecks)) {
      const keys = stampedEntries.map(({ key }) => key);
      checkAdmission.check(request.entries, keys, caller);
    }
    return { stampedEntries, ttlMs, leaseId: request.leaseId, idempotencyKey: request.idempotencyKey, isStatic: request.staticLease };
  }

  #renew(request: Pick<RenewRequest, "leaseIds" | "reports">, context: CallContext): RenewalResult {
    const { leaseIds, reports } = request;
    this.#checkCount(leaseIds, "lease_ids");
    this.#checkCount(reports, "reports");
    // Each report is stamped like a write, so it is rejected while the clock is wrong. Leases use the monotonic clock, so renewals continue.
    if (reports.length > 0) this.#parts.checkWrites();
    else this.#parts.checkStart();
    const said = reports.length === 0 ? NO_REPORTS : reports.map((report, i) => this.#report(report, `reports[${i}]`, context.time));
    return this.#parts.registrar.renew(context.caller, leaseIds, said, context.time);
  }

  #report(report: RenewRequest["reports"][number], path: string, time: Time): EntryReport {
    if (report.key === undefined) throw invalid(`${path}.key`, "is required");
    const health: number = report.health;
    return {
      key: this.#key(report.key, `${path}.key`),
      path,
      health: health === 0 ? undefined : (health as Health), // oxlint-disable-line typescript/no-unsafe-type-assertion -- the contract's rules reject other values
      load: report.load === undefined ? undefined : parseLoad(report.load, `${path}.load`, time.wallMs, this.#parts.bounds),
    };
  }

  #checkCount({ length }: readonly unknown[], field: string): void {
    const most = this.#parts.bounds.maxRequestEntries;
    if (length > most) throw invalid(field, `must have at most ${most} items (limits.max_request_entries), got ${length}`);
  }

  #key(key: WireKey, path: string): KeyText {
    return parseKey(key, path, this.#parts.identity.clusterId, this.#parts.bounds);
  }

  #stamp(caller: Caller, time: Time): Stamp {
    const { nodeId, clusterId, region, zone } = this.#parts.identity;
    const by = { tenantId: caller.tenant, registeredByAdmin: hasRole(caller, "mesh.admin") };
    return { nodeId, clusterId, region, zone, ...by, receivedWallMs: time.wallMs };
  }

  async #settled(): Promise<void> {
    const { durable, metrics } = this.#parts;
    try {
      await durable();
      metrics.inc("waymark_register_total", { outcome: "ok" });
    } catch (error) {
      metrics.inc("waymark_register_total", { outcome: "failed" });
      rethrowInvariant(error);
      if (error instanceof WaymarkError) throw error;
      throw new WaymarkError("store_unavailable", "the journal of this node rejects writes: retry, or use another node", {
        cause: error,
        retryMs: 1000,
      });
    }
  }
}

const NO_REPORTS: readonly EntryReport[] = [];
