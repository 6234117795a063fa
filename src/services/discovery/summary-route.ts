/** `GET /discovery/summary`: serves SummaryQuery as JSON. */
import { create, toJson } from "@bufbuild/protobuf";
import { EntryKind, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type SummaryQueryRequest,
  SummaryQueryRequestSchema,
  type SummaryQueryResponse,
  SummaryQueryResponseSchema,
} from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { enumValue, enumWord, type ProtoEnum } from "../../lib/enum-words.ts";
import { invalid } from "../../lib/errors.ts";
import { requestCheckOf } from "../contract.ts";
import type { CallContext, HttpRoute, RouteAnswer, RouteParameters, RouteRow } from "../service.ts";

const FILTERS = ["namespace", "namespace_prefix", "service_id", "kind", "region", "scope", "include_ingress", "ingress_limit"] as const;

export const SUMMARY_ROUTE: RouteRow = {
  path: "/discovery/summary",
  parameters: [...FILTERS, "limit", "page_token"],
  rpc: "summaryQuery",
};

type SummaryQueryCall = (request: SummaryQueryRequest, context: CallContext) => SummaryQueryResponse | Promise<SummaryQueryResponse>;

export function summaryRoute(query: SummaryQueryCall): HttpRoute {
  return {
    ...SUMMARY_ROUTE,
    answer: (asked, context) => {
      const answered = query(requestOf(asked), context);
      return answered instanceof Promise ? answered.then(pageOf) : pageOf(answered);
    },
  };
}

function pageOf(answer: SummaryQueryResponse): RouteAnswer {
  const page = toJson(SummaryQueryResponseSchema, answer, { alwaysEmitImplicit: true });
  const { items, ingress, nextPageToken } = answer;
  const steady = toJson(SummaryQueryResponseSchema, create(SummaryQueryResponseSchema, { items, ingress, nextPageToken }));
  return { kind: "page", page, steady };
}

const checkQuery = requestCheckOf(SummaryQueryRequestSchema);

function requestOf(asked: RouteParameters): SummaryQueryRequest {
  const { namespace = "", namespace_prefix: namespacePrefix = "", service_id: serviceId = "", page_token: pageToken = "" } = asked;
  const request = create(SummaryQueryRequestSchema, {
    namespace,
    namespacePrefix,
    serviceId,
    pageToken,
    kinds: listOf(asked["kind"]).map((word) => valueOf(EntryKind, word, "kind")),
    regions: listOf(asked["region"]),
    scope: valueOf(Scope, asked["scope"], "scope"),
    includeIngress: isOn(asked["include_ingress"]),
    ingressLimit: countOf(asked["ingress_limit"], "ingress_limit"),
    limit: countOf(asked["limit"], "limit"),
  });
  checkQuery(request);
  return request;
}

/** Splits a comma-separated list. */
function listOf(text = ""): string[] {
  return text === "" ? [] : text.split(",");
}

function valueOf<E extends ProtoEnum>(values: E, word: string | undefined, field: string): E[keyof E] {
  const value = enumValue(values, word);
  if (word !== undefined && value === 0) {
    const numbers = Object.values(values).filter((each) => typeof each === "number" && each > 0);
    const allowed = numbers.map((each) => enumWord(values, Number(each))).join(", ");
    throw invalid(field, `must be one of ${allowed}; got ${JSON.stringify(word.slice(0, 64))}`);
  }
  return value;
}

function isOn(text = "false"): boolean {
  if (text !== "true" && text !== "false")
    throw invalid("include_ingress", `must be true or false, got ${JSON.stringify(text.slice(0, 64))}`);
  return text === "true";
}

function countOf(text = "0", field: string): number {
  if (!/^\d{1,6}$/.test(text)) throw invalid(field, `must be a whole number from 0 to 999999, got ${JSON.stringify(text.slice(0, 64))}`);
  return Number(text);
}
