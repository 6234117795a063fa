/** Who may read as a resolver does: for other callers, whatever each of them may see (semantics.md, Resolver). */
import { isLoopbackHost } from "../lib/addresses.ts";
import { WaymarkError } from "../lib/errors.ts";
import { type Caller, demandRole } from "../policy/identity/caller.ts";

/**
 * Throws for a caller without the role, and where others could read along. `isTls`: every connection of the listeners is encrypted. Fails with
 * `unauthenticated` or `discovery_access_denied`.
 */
export function demandResolver(caller: Caller, isTls: boolean): void {
  demandRole(caller, "mesh.resolve");
  if (isTls || isLoopbackHost(caller.address)) return;
  throw new WaymarkError(
    "discovery_access_denied",
    "what resolvers read shows what policy hides from others, so beyond loopback it is served over TLS only: set tls.cert_file and tls.key_file",
  );
}
