/** What `/readyz` of a resolver says: whether it serves, whom it reads, and by which policy it judges its callers. */
import type { ReadyCheck } from "../../server/http-routes.ts";
import type { ResolverRooms } from "./resolver-rooms.ts";

/** `fault`: why the upstream servers could not be read since one of them was. Empty without one. */
export function resolverChecks(
  { machine, policies, replica, summaries }: Pick<ResolverRooms, "machine" | "policies" | "replica" | "summaries">,
  { isServing, fault }: { readonly isServing: boolean; readonly fault: string },
): readonly ReadyCheck[] {
  const { current, refused } = machine.upstreams;
  const held = isServing || replica.lookup.size > 0 ? "what is held is served" : "nothing is held yet";
  const read = current === undefined ? `no server can be read; ${held}` : `reads ${current}`;
  const isWell = fault === "" || (isServing && current !== undefined);
  const refusals = current === undefined ? refused.map(({ upstream, fault: why }) => `${upstream} is refused: ${why}`) : [];
  return [
    // A resolver that was ready stays so: what it misses afterwards shows in its answers, and another resolver would miss it too.
    { name: "catalog", ok: isServing, detail: machine.fault ?? (isServing ? "loaded" : "loading") },
    { name: "upstream", ok: true, detail: [read, ...refusals, ...(isWell ? [] : [`last fault: ${fault}`])].join("; ") },
    { name: "policy", ok: machine.policy.isReady, detail: policyDetail(machine, policies) },
    ...(summaries === undefined ? [] : [{ name: "summaries", ok: true, detail: summariesDetail(summaries) }]),
  ];
}

function summariesDetail({ followed }: NonNullable<ResolverRooms["summaries"]>): string {
  if (followed.fault !== undefined) return followed.fault;
  return followed.isComplete ? "followed" : "not held yet; a server without summary.keys has none to give";
}

function policyDetail({ policy }: ResolverRooms["machine"], { status, isAwaiting }: ResolverRooms["policies"]): string {
  const { lacking } = policy.kept.state;
  if (lacking !== undefined) return `version ${lacking} is known of and is not here`;
  if (isAwaiting) return "no server has said yet what the policy is";
  return status.isEnabled ? `version ${status.inForce?.number} in force` : "none configured";
}
