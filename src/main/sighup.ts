/** SIGHUP asks a node to read its files again. It never ends a process that runs a node, but it ends every other command. */
let isAsked = false;
let heed = (): void => {
  isAsked = true;
};
const hear = (): void => heed();

/** From now on SIGHUP does not end this process. A signal is remembered until `heedHangUp` or `letHangUpEnd` is called. */
export function holdHangUp(): void {
  process.on("SIGHUP", hear);
}

/** This process runs no node: from now on SIGHUP ends it, and one that came before ends it now. */
export function letHangUpEnd(): void {
  process.off("SIGHUP", hear);
  if (isAsked) process.kill(process.pid, "SIGHUP");
}

/** From now on `reload` runs at each SIGHUP, and once now if one came before. */
export function heedHangUp(reload: () => void): void {
  heed = reload;
  if (isAsked) reload();
  isAsked = false;
}
