/**
 * Grants the operator's view to reads that request it (`viewer.operator`). No other code grants it. Each such read is recorded in the audit log, also
 * when it is refused.
 */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { type Viewer, ViewerSchema } from "../../gen/waymark/catalog/v1/viewer_pb.js";
import { invalid, WaymarkError } from "../lib/errors.ts";
import { type Caller, demandRole } from "../policy/identity/caller.ts";
import { namespacesOf } from "./contract.ts";
import type { CallContext, MethodHandler, ServiceDefinition } from "./service.ts";

/** A read that requested the operator's view. */
export interface OperatorRead {
  /** The rpc, and the requested name if there is one. */
  readonly detail: string;
  /** The requested namespace or prefix. Empty if there is none. */
  readonly namespace: string;
  readonly requestId: string;
  /** The reason of the error, or an empty string if the view was granted. */
  readonly refusal: string;
}

export interface OperatorViewParts {
  /** A resolver refuses the view: it has entries only because its own credential has the role mesh.resolve. */
  readonly isResolver: boolean;
  readonly onOperatorView: (caller: Caller, read: OperatorRead) => void;
}

/** Returns the service with checks of `viewer.operator` before its handlers run. Handlers of requests without viewers are not wrapped. */
export function withOperatorView(service: ServiceDefinition, parts: OperatorViewParts): ServiceDefinition {
  const handlers: Record<string, MethodHandler> = { ...service.handlers };
  for (const method of service.desc.methods) {
    const handler = handlers[method.localName];
    const grant = grantOf(method, parts);
    if (handler === undefined || grant === undefined) continue;
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler belongs to the request's method
    const granted =
      <T>(run: (request: never, context: CallContext) => T) =>
      (request: Message, context: CallContext) =>
        run(request as never, grant(request, context));
    if (handler.kind === "unary") handlers[method.localName] = { ...handler, handle: granted(handler.handle) };
    if (handler.kind === "server_streaming") handlers[method.localName] = { ...handler, open: granted(handler.open) };
  }
  return { ...service, handlers };
}

/** Returns a function that checks a request and adds the operator's view to its context. Undefined if requests of the method have no viewer. */
function grantOf(method: DescMethod, { isResolver, onOperatorView }: OperatorViewParts) {
  const field = method.input.fields.find(({ message }) => message === ViewerSchema);
  if (field === undefined) return undefined;
  // The response must be able to name the rules.
  const isMarked = method.output.fields.some(({ name }) => name === "hidden_by");
  const namespaces = namespacesOf(method);
  return (request: Message, context: CallContext): CallContext => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the field of the contract is a Viewer
    const viewer = (request as unknown as Readonly<Record<string, Viewer | undefined>>)[field.localName];
    if (viewer?.operator !== true) return context;
    const { caller, requestId } = context;
    const name = "name" in request && typeof request.name === "string" ? ` ${request.name}` : "";
    const read = { detail: `${method.name}${name}`, namespace: namespaces?.(request)[0] ?? "", requestId };
    try {
      check(viewer);
    } catch (error) {
      if (error instanceof WaymarkError) onOperatorView(caller, { ...read, refusal: error.reason });
      throw error;
    }
    onOperatorView(caller, { ...read, refusal: "" });
    // The context is changed and not copied, because the listener calls the `onOver` that a handler sets on it.
    return Object.assign(context, { caller: { ...caller, hasOperatorView: true } });

    function check({ clusterId, tenantId }: Viewer): void {
      demandRole(caller, "mesh.operate", " to set viewer.operator");
      if (!isMarked) throw invalid("viewer.operator", `must not be set for ${method.name}, because this call has no operator's view`);
      if (clusterId !== "" || tenantId !== "") throw invalid("viewer.operator", "must not be set together with cluster_id or tenant_id");
      if (isResolver)
        throw new WaymarkError(
          "read_only",
          "this server is a resolver, which has no operator's view (viewer.operator): send the call to a node",
        );
    }
  };
}
