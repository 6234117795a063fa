/** Zones that DNS sent, in the audit: which key took which zone, from where, and how much of it. */
import type { EndedTransfer } from "../../dns/transfer/transfer-request.ts";
import type { ViewerOfView } from "../../dns/views/views.ts";
import { counted } from "../../lib/counted.ts";
import type { AccessLog } from "../access-log.ts";
import type { NodeLimits } from "../limits.ts";

interface Noting {
  readonly accessLog: Pick<AccessLog, "onTransfer">;
  readonly limits: Pick<NodeLimits, "noteDns">;
}

/** The principal is `tsig:` and the name of the key, so that no certificate or token has the same one. The tenant is that of the view of the key. */
export function noteTransfer({ accessLog, limits }: Noting, viewers: readonly ViewerOfView[], ended: EndedTransfer): void {
  const { keyName, zone, viewIndex, address, outcome, serial, recordCount, crowdedNameCount, sizeBytes } = ended;
  const viewer = viewers[viewIndex]?.caller;
  if (viewer === undefined) return;
  const caller = { ...viewer, principal: `tsig:${keyName}`, isAuthenticated: true, address };
  // A secondary that asks again and again fills the audit no more than other refused callers.
  if (outcome === "refused")
    limits.noteDns({ caller, action: "transfer", namespace: "", reason: "quota_exceeded", detail: `zone ${zone}` });
  else {
    const sent = `${counted(recordCount, "record")}, ${counted(sizeBytes, "byte")}`;
    const inPart = crowdedNameCount === 0 ? "" : `, ${counted(crowdedNameCount, "crowded name")} in part`;
    accessLog.onTransfer(caller, zone, `zone ${zone}, serial ${serial}, ${outcome}: ${sent}${inPart}`);
  }
}
