/**
 * Grants the operator's view to reads that request it (`viewer.as_operator`). No other code grants it. Each such read is recorded in the audit log,
 * also when it is refused.
 */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { type Viewer, ViewerSchema } from "../../gen/waymark/catalog/v1/viewer_pb.js";
import { invalid, WaymarkError } from "../lib/errors.ts";
import type { AuditEvent } from "../policy/audit/record.ts";
import { type Caller, demandRole } from "../policy/identity/caller.ts";
import { namespacesOf } from "./contract.ts";
import type { CallContext, MethodHandler, ServiceDefinition } from "./service.ts";

/** A read that requested the operator's view. `detail`: the rpc and the requested name. `reason`: why it was refused, or empty. */
export type OperatorRead = Pick<AuditEvent, "detail" | "namespace" | "reason" | "requestId">;

export interface OperatorViewParts {
  /** A resolver refuses the view: it has entries only because its own credential has the role mesh.resolve. */
  readonly isResolver: boolean;
  readonly onOperatorView: (caller: Caller, read: OperatorRead) => void;
}

/** Returns the service with checks of `viewer.as_operator` before its handlers run. */
export function withOperatorView(service: ServiceDefinition, parts: OperatorViewParts): ServiceDefinition {
  const handlers: Record<string, MethodHandler> = { ...service.handlers };
  for (const method of service.desc.methods) {
    const handler = handlers[method.localName];
    const field = method.input.fields.find(({ message }) => message === ViewerSchema);
    if (handler === undefined || field === undefined) continue;
    const contextOf = (request: Message, context: CallContext): CallContext => {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the field of the contract is a Viewer
      const viewer = Reflect.get(request, field.localName) as Viewer | undefined;
      return viewer?.asOperator === true ? granted(parts, { method, request, viewer }, context) : context;
    };
    if (handler.kind === "unary")
      handlers[method.localName] = {
        ...handler,
        handle: (request: never, context) => handler.handle(request, contextOf(request, context)),
      };
    if (handler.kind === "server_streaming")
      handlers[method.localName] = {
        ...handler,
        open: (request: never, context: CallContext) => handler.open(request, contextOf(request, context)),
      };
  }
  return { ...service, handlers };
}

interface AskedView {
  readonly method: DescMethod;
  readonly request: Message;
  readonly viewer: Viewer;
}

/** Adds the operator's view to the context of a call, or throws the reason why the caller cannot have it. */
function granted(parts: OperatorViewParts, asked: AskedView, context: CallContext): CallContext {
  const { caller, requestId } = context;
  const { method, request } = asked;
  const detail = "name" in request ? `${method.name} ${String(request.name)}` : method.name;
  const read = { detail, namespace: namespacesOf(method)?.(request)[0] ?? "", requestId };
  try {
    checkView(parts, asked, caller);
  } catch (error) {
    parts.onOperatorView(caller, { ...read, reason: error instanceof WaymarkError ? error.reason : "internal" });
    throw error;
  }
  parts.onOperatorView(caller, { ...read, reason: "" });
  // The context is changed and not copied, because the listener calls the `onOver` that a handler sets on it.
  return Object.assign(context, { caller: { ...caller, hasOperatorView: true } });
}

function checkView({ isResolver }: OperatorViewParts, { method, viewer }: AskedView, caller: Caller): void {
  demandRole(caller, "mesh.operate", " to set viewer.as_operator");
  // The answer must be able to name the rules.
  if (!method.output.fields.some(({ name }) => name === "hidden_by"))
    throw invalid("viewer.as_operator", `is not available for ${method.name}`);
  if (viewer.clusterId !== "" || viewer.tenantId !== "")
    throw invalid("viewer.as_operator", "must not be set together with cluster_id or tenant_id");
  if (isResolver)
    throw new WaymarkError("read_only", "this server is a resolver, which rejects viewer.as_operator: send the call to a node");
}
