/** DnsService's ResolveName: the answer of the DNS gateway, for the view of a caller, and what decided it. */
import { create } from "@bufbuild/protobuf";
import type { Viewer } from "../../../gen/waymark/catalog/v1/viewer_pb.js";
import { type ResolveNameRequest, ResolveNameResponseSchema } from "../../../gen/waymark/dns/v1/dns_pb.js";
import type { Reads } from "../../discovery/reads.ts";
import { CLASS_IN, drawAnswer, type Plan, planAnswer, type Question } from "../../dns/plan/answer.ts";
import type { DnsCatalog } from "../../dns/plan/subject.ts";
import type { DnsRecord, DnsSettings } from "../../dns/records/record.ts";
import { UnknownName } from "../../dns/views/elsewhere.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { type Caller, demandRole, hasRole, viewerOf } from "../../policy/identity/caller.ts";
import type { CallContext, Handler } from "../service.ts";
import { reasonsOf } from "./reasons.ts";
import { parseRecordType, rcodeText, recordText } from "./zone-text.ts";

export interface NameAnswersParts {
  readonly settings: DnsSettings;
  /** The catalog as a viewer sees it in DNS. */
  readonly catalogOf: (viewer: Caller) => DnsCatalog;
  /** A question is looked at. `waited`: what it has waited for, if it was looked at before. */
  readonly begin: (waited: UnknownName | undefined) => void;
  /** The serial of the zone that a class of viewers is told. Absent: that of the plan. */
  readonly serialOf?: ((viewIndex: number) => number) | undefined;
  readonly reads: Pick<Reads, "noteHidden" | "verdict">;
  /** Throws `not_ready` while DNS questions may not be answered. */
  readonly checkCaughtUp: () => void;
  readonly random: () => number;
  readonly allowsViewerOverride: boolean;
}

export function resolveNameHandler(parts: NameAnswersParts): Handler {
  return { kind: "unary", handle: (request: ResolveNameRequest, context) => resolveName(parts, request, context) };
}

/** How often a question may wait for something that is fetched. */
const MAX_WAITS = 16;
const RETRY_MS = 500;

async function resolveName(parts: NameAnswersParts, request: ResolveNameRequest, { caller }: CallContext) {
  const { settings, random, reads } = parts;
  const question = { name: parseQuestionName(request.name), type: parseRecordType(request.recordType), class: CLASS_IN };
  const viewer = viewerFor(caller, request.viewer, parts.allowsViewerOverride);
  parts.checkCaughtUp();
  const catalog = parts.catalogOf(viewer);
  const { plan, reasons } = await here(parts, () => {
    const made: Plan = planAnswer(question, catalog, settings);
    const told = { question, plan: made, viewer, isOperator: hasRole(caller, "mesh.operate") };
    return { plan: made, reasons: request.explain ? reasonsOf(told, { catalog, settings, reads }) : [] };
  });
  const hidden = catalog.takeHidden();
  if (hidden.length > 0) reads.noteHidden(viewer, hidden);
  const answer = drawAnswer(plan, random);
  const serial = parts.serialOf?.(catalog.view.index);
  const texts = (records: readonly DnsRecord[]) => records.map((record) => recordText(withSerial(record, serial)));
  return create(ResolveNameResponseSchema, {
    rcode: rcodeText(answer.rcode),
    answers: texts(answer.answers),
    authority: texts(answer.authority),
    additional: texts(answer.additional),
    authoritative: answer.isAuthoritative,
    reasons: [...reasons],
  });
}

function withSerial(record: DnsRecord, serial: number | undefined): DnsRecord {
  return record.type === "SOA" && serial !== undefined ? { ...record, data: { ...record.data, serial } } : record;
}

/** What `make` gives once everything is here that it asks for, all in one turn. At a node that is at once. */
async function here<T>({ begin }: NameAnswersParts, make: () => T): Promise<T> {
  let waited: UnknownName | undefined;
  for (let waits = 0; waits < MAX_WAITS; waits++) {
    begin(waited);
    try {
      return make();
    } catch (error) {
      if (!(error instanceof UnknownName)) throw error;
      waited = error;
    }
    await waited.arrival;
  }
  throw new WaymarkError("not_ready", "this resolver does not know all that the answer needs; try again", { retryMs: RETRY_MS });
}

/** The viewer that a request may use: the caller itself, or the one that it names. */
function viewerFor(caller: Caller, asked: Viewer | undefined, allowsOverride: boolean): Caller {
  if (asked === undefined || (asked.clusterId === "" && asked.tenantId === "")) return caller;
  const wanted = { ...caller, cluster: asked.clusterId || caller.cluster, tenant: asked.tenantId || caller.tenant };
  const isOwn = wanted.cluster === caller.cluster && wanted.tenant === caller.tenant;
  if (isOwn || hasRole(caller, "mesh.operate")) return wanted;
  const allowed = viewerOf(caller, asked, allowsOverride);
  if (allowed === caller) demandRole(caller, "mesh.operate", ": the view of another is asked for");
  return allowed;
}

/** A question's name in lower case, without the final dot. Throws `invalid_argument`. */
function parseQuestionName(text: string): Question["name"] {
  const name = text.toLowerCase().replace(/\.$/, "");
  const isName = name === "" || (name.length <= 253 && name.split(".").every((label) => LABEL.test(label)));
  if (!isName) throw invalid("name", "is not a DNS name: labels of 1 to 63 printable characters with a dot between, at most 253 in all");
  return name.replace(NOT_OURS, (char) => `\\${String(char.charCodeAt(0)).padStart(3, "0")}`);
}

const LABEL = /^[!-~]{1,63}$/;
/** Characters that our names do not have. */
const NOT_OURS = /[^a-z0-9._-]/g;
