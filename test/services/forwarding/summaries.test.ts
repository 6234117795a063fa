/** A read worker of a node that holds summaries: it holds none itself. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  DiscoveryService,
  NamespaceStatusRequestSchema,
  NamespaceStatusResponseSchema,
  type ResolveRequest,
  ResolveRequestSchema,
  ResolveResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { SummaryQueryRequestSchema, SummaryQueryResponseSchema } from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { ReadHandlers } from "../../../src/services/discovery/read-handlers.ts";
import { workerServices } from "../../../src/services/forwarding/worker-services.ts";
import type { MethodHandler, UnaryHandler } from "../../../src/services/service.ts";
import { CONTEXT, Forwarding } from "../../fakes/forwarding.ts";

const NOBODY: MethodHandler = { kind: "unary", handle: () => create(ResolveResponseSchema) };
const answered = (servedBy: string) => create(ResolveResponseSchema, { servedBy });

/** The worker finds `here`, refuses `too_stale` for that reason, and nothing else; the main thread is asked for the rest. */
function worker(hasSummaries: boolean) {
  const main = new Forwarding({
    desc: DiscoveryService,
    handlers: {
      resolve: { kind: "unary", handle: () => answered("main") },
      namespaceStatus: { kind: "unary", handle: () => create(NamespaceStatusResponseSchema, { servedBy: "main" }) },
      summaryQuery: { kind: "unary", handle: () => create(SummaryQueryResponseSchema, { servedBy: "main" }) },
    },
  });
  const resolve: UnaryHandler<ResolveRequest> = ({ name }) => {
    if (name === "here") return answered("worker");
    throw new WaymarkError(name === "too_stale" || name === "in_maintenance" ? name : "not_found", `no ${name}`);
  };
  const handlers = { resolve: { kind: "unary" as const, handle: resolve }, catalogQuery: NOBODY, catalogWatch: NOBODY };
  const reads: ReadHandlers = {
    handlers: { ...handlers, namespaceStatus: NOBODY, serverInfo: NOBODY },
    routes: [],
    resolveName: NOBODY,
    maySee: ({ namespace }) => namespace !== "hidden",
    query: () => new Uint8Array(),
  };
  const services = workerServices(main.worker, { reads, routes: {}, hasSummaries });
  const service = services.find(({ desc }) => desc === DiscoveryService);
  const call = async (method: "namespaceStatus" | "resolve" | "summaryQuery", name: string): Promise<string> => {
    const handler = service?.handlers[method];
    if (handler?.kind !== "unary") return "unimplemented";
    const namespace = name === "hidden" ? name : "svc";
    const requests = {
      resolve: create(ResolveRequestSchema, { name, namespace }),
      namespaceStatus: create(NamespaceStatusRequestSchema, { namespace }),
      summaryQuery: create(SummaryQueryRequestSchema),
    };
    const request = requests[method];
    try {
      const answer = Promise.resolve(handler.handle(request as never, CONTEXT));
      answer.catch(() => {});
      await main.settle();
      const said = await answer;
      return said instanceof Uint8Array ? "main" : "worker";
    } catch (error) {
      return error instanceof WaymarkError ? error.reason : "bug";
    }
  };
  return call;
}

test.each([
  { method: "resolve", name: "here", alone: "worker", want: "worker" },
  { method: "resolve", name: "elsewhere", alone: "not_found", want: "main" },
  // The audit is to have one refusal.
  { method: "resolve", name: "hidden", alone: "not_found", want: "not_found" },
  { method: "resolve", name: "in_maintenance", alone: "in_maintenance", want: "main" },
  { method: "resolve", name: "too_stale", alone: "too_stale", want: "too_stale" },
  { method: "namespaceStatus", name: "svc", alone: "worker", want: "main" },
  { method: "summaryQuery", name: "", alone: "main", want: "main" },
] as const)("$method $name is answered by: $want; where the node holds no summaries: $alone", async ({ method, name, alone, want }) => {
  expect([await worker(false)(method, name), await worker(true)(method, name)]).toEqual([alone, want]);
});
