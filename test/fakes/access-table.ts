/** The outcome that the options of an rpc promise to each kind of caller, and calls of the rpc and its routes by such callers. */
import { type DescMethod, getOption, type JsonObject } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { access, Cost, call, Role } from "../../gen/waymark/options/v1/options_pb.js";
import type { Headers } from "./any-call.ts";
import { textOf } from "./node.ts";

/** "served" is every outcome that does not refuse the caller for its credential or roles. */
export type Verdict = "denied" | "served" | "unauthenticated";

export function verdictOf(code: string): Verdict {
  return code === "UNAUTHENTICATED" ? "unauthenticated" : code === "PERMISSION_DENIED" ? "denied" : "served";
}

/** The namespace in requests of rpcs that its owners can call. */
export const NAMESPACE = "svc.market";

const CALLERS = ["none", "wrong", "expired", "plain", "roleless", "read", "operate", "admin", "resolve", "owner", "neighbour"] as const;
export type CallerKind = (typeof CALLERS)[number];

/** Returns the callers in the order of `CALLERS`. The neighbour owns another namespace. */
export function promisedVerdicts(method: DescMethod): ReadonlyMap<CallerKind, Verdict> {
  const { role, ownerOf, anyOwner } = getOption(method, access);
  const { NONE, MESH_READ, MESH_OPERATE, MESH_ADMIN, MESH_RESOLVE } = Role;
  const isRead = getOption(method, call).cost === Cost.READ || method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  const by = (isServed: boolean): Verdict => (isServed || role === NONE ? "served" : "denied");
  const rows: Readonly<Record<CallerKind, Verdict>> = {
    none: role === NONE && isRead ? "served" : "unauthenticated",
    wrong: "unauthenticated",
    expired: "unauthenticated",
    plain: by(false),
    roleless: by(false),
    read: by(role === MESH_READ),
    operate: by(role === MESH_READ || role === MESH_OPERATE),
    admin: by(role === MESH_READ || role === MESH_OPERATE || role === MESH_ADMIN),
    resolve: by(role === MESH_RESOLVE),
    owner: by(anyOwner || ownerOf !== ""),
    neighbour: by(anyOwner),
  };
  return new Map(CALLERS.map((kind) => [kind, rows[kind]]));
}

/** Returns an empty request, or one about the namespace if its owners can call the rpc. */
export function requestOf(method: DescMethod): Readonly<Record<string, string>> {
  const { ownerOf } = getOption(method, access);
  return ownerOf === "" ? {} : { [ownerOf]: NAMESPACE };
}

/** Returns the HTTP requests for an rpc: a call in JSON if the rpc is unary, and its routes. */
export function httpTargets(method: DescMethod, nodeId: string): readonly { readonly verb: string; readonly target: string }[] {
  const query = new URLSearchParams(requestOf(method)).toString();
  const routes = getOption(method, call).routes.map((route) => {
    const [path = "", verb = "GET"] = route.split(" ").toReversed();
    return { verb, target: path.replace("{node_id}", nodeId) + (verb === "GET" && query !== "" ? `?${query}` : "") };
  });
  return [...(method.methodKind === "unary" ? [{ verb: "POST", target: `/${method.parent.typeName}/${method.name}` }] : []), ...routes];
}

/**
 * Sends a request of one of these callers. The body of a caller whom the headers alone must refuse is not JSON, because it must not be read. Returns
 * the code and message of a refusal, and of any other answer only its status.
 */
export async function askTarget(
  base: string,
  { verb, target }: ReturnType<typeof httpTargets>[number],
  { method, headers, isRead }: { readonly method: DescMethod; readonly headers: Headers; readonly isRead: boolean },
) {
  const body = isRead ? JSON.stringify(requestOf(method)) : "{";
  const reply = await fetch(base + target, {
    method: verb,
    headers: { ...headers, "content-type": "application/json" },
    ...(verb !== "GET" && { body }),
    signal: AbortSignal.timeout(30_000),
  });
  const { status } = reply;
  if (status !== 401 && status !== 403) {
    await reply.body?.cancel();
    return { code: "", message: "", status };
  }
  const { code, message } = (await reply.json()) as JsonObject;
  return { code: textOf(code).toUpperCase(), message: textOf(message), status };
}
