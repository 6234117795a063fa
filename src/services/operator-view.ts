/**
 * Grants the operator's view to reads that request it (`viewer.as_operator`). No other code grants it. Each granted read is recorded in the audit
 * log, and refused reads with at most one record per second and caller.
 */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { type Viewer, ViewerSchema } from "../../gen/waymark/catalog/v1/viewer_pb.js";
import { plainName } from "../discovery/dns-names.ts";
import { invalid, WaymarkError } from "../lib/errors.ts";
import type { AuditEvent, RefusedAct } from "../policy/audit/record.ts";
import { type Caller, demandRole } from "../policy/identity/caller.ts";
import { namespacesOf } from "./contract.ts";
import { thingOf, unzoned } from "./dns/full-names.ts";
import type { CallContext, MethodHandler, ServiceDefinition } from "./service.ts";

/** A read in the operator's view. `detail`: the rpc and the requested name. */
export type OperatorRead = Pick<AuditEvent, "detail" | "namespace" | "requestId">;

export interface OperatorViewParts {
  /** A resolver refuses the view: it has entries only because its own credential has the role mesh.resolve. */
  readonly isResolver: boolean;
  /** The DNS zones. */
  readonly zones: readonly string[];
  readonly onOperatorView: (caller: Caller, read: OperatorRead) => void;
  readonly onRefused: (refusal: RefusedAct) => void;
}

/** Returns the service with checks of `viewer.as_operator` before its handlers run. */
export function withOperatorView(service: ServiceDefinition, parts: OperatorViewParts): ServiceDefinition {
  const handlers: Record<string, MethodHandler> = { ...service.handlers };
  for (const method of service.desc.methods) {
    const handler = handlers[method.localName];
    const viewerField = method.input.fields.find(({ message }) => message === ViewerSchema)?.localName;
    if (handler === undefined || viewerField === undefined) continue;
    const run =
      <T>(handle: (request: never, context: CallContext) => T) =>
      (request: Message, context: CallContext): T => {
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the field of the contract is a Viewer
        const viewer = (request as Message & Readonly<Record<string, Viewer | undefined>>)[viewerField];
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler belongs to the request's method
        return handle(request as never, viewer?.asOperator === true ? granted(parts, { method, request, viewer }, context) : context);
      };
    if (handler.kind === "unary") handlers[method.localName] = { ...handler, handle: run(handler.handle) };
    if (handler.kind === "server_streaming") handlers[method.localName] = { ...handler, open: run(handler.open) };
  }
  return { ...service, handlers };
}

interface AskedView {
  readonly method: DescMethod;
  readonly request: Message;
  readonly viewer: Viewer;
}

/** Adds the operator's view to the context of a call, or throws the reason why the caller cannot have it. */
function granted(
  { isResolver, zones, onOperatorView, onRefused }: OperatorViewParts,
  { method, request, viewer }: AskedView,
  context: CallContext,
): CallContext {
  const { caller, requestId } = context;
  const dnsName = "name" in request ? String(request.name) : "";
  const detail = `${method.name} ${dnsName}`.trimEnd();
  const namespacesIn = namespacesOf(method);
  // Without such fields, the name is a DNS name.
  const namespace = (namespacesIn === undefined ? thingOf(unzoned(plainName(dnsName), zones))?.namespace : namespacesIn(request)[0]) ?? "";
  try {
    check();
  } catch (error) {
    if (error instanceof WaymarkError) onRefused({ caller, action: "operator_view", namespace, reason: error.reason, detail });
    throw error;
  }
  onOperatorView(caller, { detail, namespace, requestId });
  // The context is changed and not copied, because the listener calls the `onOver` that a handler sets on it.
  return Object.assign(context, { caller: { ...caller, hasOperatorView: true } });

  function check(): void {
    demandRole(caller, "mesh.operate", " to set viewer.as_operator");
    // The answer must be able to name the rules.
    if (!method.output.fields.some(({ name }) => name === "hidden_by"))
      throw invalid("viewer.as_operator", `is not available for ${method.name}`);
    if (viewer.clusterId !== "" || viewer.tenantId !== "")
      throw invalid("viewer.as_operator", "must not be set together with cluster_id or tenant_id");
    if (isResolver)
      throw new WaymarkError("read_only", "this server is a resolver, which rejects viewer.as_operator: send the call to a node");
  }
}
