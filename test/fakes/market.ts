/** Services of one namespace on a real node, as the tests of hostile peers register and find them. */
import { expect } from "vitest";
import type { GrpcDoor } from "./node.ts";

const NAMESPACE = "svc.market";

export const keyOf = (name: string) => ({ kind: "ENTRY_KIND_SERVICE", namespace: NAMESPACE, name, instanceId: "1" });

/** Registers one service; fails when the node refuses it. */
export async function registered(
  door: GrpcDoor,
  name: string,
  lease: { readonly staticLease: true } | { readonly ttl: string },
): Promise<void> {
  const { code, reason, message } = await door.ask("register", { entries: [{ key: keyOf(name) }], ...lease });
  expect(`${name}: ${code} ${reason} ${message}`).toMatch(/OK/);
}

/** Names of all services that the node shows, in order, with commas between them. */
export async function names(door: GrpcDoor): Promise<string> {
  const { response, code, reason, message } = await door.ask("catalogQuery", { namespace: NAMESPACE, limit: 1000 });
  expect(`${code} ${reason} ${message}`).toMatch(/^OK/);
  const items = (response["items"] ?? []) as { readonly key: { readonly name: string } }[];
  return items
    .map(({ key }) => key.name)
    .toSorted()
    .join();
}
