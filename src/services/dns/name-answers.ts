/** Implements DnsService.ResolveName: returns the answer that the DNS gateway gives for a caller's view, with the reasons for the answer. */
import { create } from "@bufbuild/protobuf";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService, type ResolveNameRequest, ResolveNameResponseSchema } from "../../../gen/waymark/dns/v1/dns_pb.js";
import type { CatalogReads } from "../../discovery/reads.ts";
import { type AnswerPlan, CLASS_IN, failure, planAnswer, type QueryQuestion, RCODE } from "../../dns/plan/answer.ts";
import { type DrawnAnswer, drawAnswer } from "../../dns/plan/answer-draw.ts";
import { EXTENDED_ERROR, extendedErrorText } from "../../dns/plan/extended-errors.ts";
import type { DnsRecord, DnsSettings } from "../../dns/records/record.ts";
import { PendingNameError } from "../../dns/subject/remote-lookup.ts";
import type { DnsCatalog, DnsView } from "../../dns/subject/subject.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { type Caller, hasRole } from "../../policy/identity/caller.ts";
import type { CallContext, MethodHandler, ServiceDefinition } from "../service.ts";
import { type AnswerReason, reasonsOf } from "./answer-reasons.ts";
import { nameListHandlers } from "./names.ts";
import { type QuestionRights, type QuestionRightsParts, questionRightsOf, viewWords } from "./question-rights.ts";
import { parseRecordType, rcodeText, recordText } from "./zone-text.ts";

export interface NameAnswersParts extends QuestionRightsParts {
  readonly settings: DnsSettings;
  /** Returns the catalog as DNS shows it to a viewer, with the locality of a view. */
  readonly catalogOf: (viewer: Caller, view: DnsView) => DnsCatalog;
  /** Returns the serial of the zone for a view, by its index. */
  readonly serialOf: (viewIndex: number) => number;
  readonly reads: Pick<CatalogReads, "hiddenBy" | "noteHidden" | "verdict">;
  /** Throws `not_ready` while DNS queries cannot be answered. */
  readonly checkCaughtUp: () => void;
  readonly random: () => number;
}

function resolveNameHandler(parts: NameAnswersParts): MethodHandler {
  return { kind: "unary", handle: (request: ResolveNameRequest, context) => resolveName(parts, request, context) };
}

/** Largest number of fetches for which a query waits. */
const MAX_WAITS = 16;
const RETRY_MS = 500;

async function resolveName(parts: NameAnswersParts, request: ResolveNameRequest, { caller, time }: CallContext) {
  const { settings, random, reads } = parts;
  const question = { name: parseQuestionName(request.name), type: parseRecordType(request.recordType), class: CLASS_IN };
  const asking = questionRightsOf(parts, request, caller);
  const view: AnswerReason = { topic: "view", detail: viewWords(asking) };
  const draw = (plan: AnswerPlan) => drawAnswer(plan, { random, answerLimit: asking.view.answerLimit });
  if (asking.isRefused) return said({ plan: REFUSED, answer: draw(REFUSED), reasons: [view] }, { request });
  parts.checkCaughtUp();
  const { viewer } = asking;
  const catalog = parts.catalogOf(viewer, asking.view);
  const made = await here(catalog, () => {
    const plan: AnswerPlan = planAnswer(question, catalog, settings);
    const answer = draw(plan);
    const told = { question, plan, shownCount: answer.answers.length, viewer, isOperator: hasRole(caller, "mesh.operate") };
    const sources = { catalog, settings, reads, nowWallMs: time.wallMs };
    return { plan, answer, reasons: request.explain ? [view, ...reasonsOf(told, sources)] : [] };
  });
  const hidden = catalog.takeHidden();
  if (hidden.length > 0) reads.noteHidden(viewer, hidden);
  const hiddenBy = reads.hiddenBy(viewer, hiddenOtherwise(parts, question, asking));
  return said(made, { request, serial: parts.serialOf(asking.view.index), hiddenBy });
}

/** Returns the namespaces that the policy hides from the same query outside the operator's view. */
function hiddenOtherwise({ catalogOf, settings }: NameAnswersParts, question: QueryQuestion, { viewer, view }: QuestionRights) {
  if (viewer.hasOperatorView !== true) return [];
  const catalog = catalogOf({ ...viewer, hasOperatorView: false }, view);
  planAnswer(question, catalog, settings);
  return catalog.takeHidden().map((namespace) => ({ namespace }));
}

interface PlannedAnswer {
  readonly plan: AnswerPlan;
  readonly answer: DrawnAnswer;
  readonly reasons: readonly AnswerReason[];
}

interface AnswerContext {
  readonly request: ResolveNameRequest;
  readonly serial?: number | undefined;
  readonly hiddenBy?: ReturnType<CatalogReads["hiddenBy"]>;
}

function said({ plan, answer, reasons }: PlannedAnswer, { request, serial, hiddenBy }: AnswerContext) {
  const texts = (records: readonly DnsRecord[]) => records.map((record) => recordText(withSerial(record, serial)));
  return create(ResolveNameResponseSchema, {
    rcode: rcodeText(answer.rcode),
    answers: texts(answer.answers),
    authority: texts(answer.authority),
    additional: texts(answer.additional),
    authoritative: answer.isAuthoritative,
    truncated: plan.isCut === true,
    hiddenBy: { ...hiddenBy },
    reasons: request.explain ? [...reasons] : [],
    extendedErrors: plan.extendedError === undefined ? [] : [extendedErrorText(plan.extendedError)],
  });
}

/** The answer to a source that is not allowed to send queries. */
const REFUSED: AnswerPlan = { ...failure(RCODE.REFUSED), extendedError: EXTENDED_ERROR.PROHIBITED };

function withSerial(record: DnsRecord, serial: number | undefined): DnsRecord {
  return record.type === "SOA" && serial !== undefined ? { ...record, data: { ...record.data, serial } } : record;
}

/**
 * Calls `make` repeatedly until all data that it needs has been fetched, and returns the result of a single run. On a node, the first run succeeds.
 */
async function here<T>({ remoteLookup }: DnsCatalog, make: () => T): Promise<T> {
  let waited: PendingNameError | undefined;
  for (let waits = 0; waits < MAX_WAITS; waits++) {
    remoteLookup?.begin(waited, () => true);
    try {
      return make();
    } catch (error) {
      if (!(error instanceof PendingNameError)) throw error;
      waited = error;
    }
    await waited.arrival;
  }
  throw new WaymarkError("not_ready", `this resolver still lacks data for the answer after ${MAX_WAITS} fetches; retry in ${RETRY_MS} ms`, {
    retryMs: RETRY_MS,
  });
}

/** Returns the name in a query in lower case, without the final dot. Throws `invalid_argument`. */
function parseQuestionName(text: string): QueryQuestion["name"] {
  const name = text.replace(/\.$/, "");
  const isName = name === "" || (name.length <= 253 && name.split(".").every((label) => LABEL.test(label)));
  if (!isName)
    throw invalid(
      "name",
      "must be a DNS name: labels of 1 to 63 printable ASCII characters, separated by dots, at most 253 characters in total",
    );
  // The name is checked first, because the lower case of a non-ASCII character can be an ASCII letter.
  return name.toLowerCase().replace(NOT_OURS, (char) => `\\${String(char.charCodeAt(0)).padStart(3, "0")}`);
}

const LABEL = /^[!-~]{1,63}$/;
/** Characters that do not occur in names of the zones. */
const NOT_OURS = /[^a-z0-9._-]/g;

// DnsService in the form that listeners serve. The services of the process contain its writes. The reads of DnsService, which any copy of the catalog
// can answer, are added here.

/** Adds the read handlers of DnsService to the services. Without DnsService or DiscoveryService.CatalogQuery, returns the services unchanged. */
export function withNameReads(services: readonly ServiceDefinition[], parts: NameAnswersParts): readonly ServiceDefinition[] {
  const query = services.find(({ desc }) => desc === DiscoveryService)?.handlers["catalogQuery"];
  if (query === undefined) return services;
  const reads = { ...nameListHandlers({ query, zones: parts.settings.zones }), resolveName: resolveNameHandler(parts) };
  return services.map((service) => (service.desc === DnsService ? { ...service, handlers: { ...service.handlers, ...reads } } : service));
}
