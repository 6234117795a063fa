/** SIGHUP asks a node to read its files again: from the first moment of its program to the last it ends nothing. Any other command it ends. */
let isAsked = false;
let heed = (): void => {
  isAsked = true;
};
const hear = (): void => heed();

/** From now on SIGHUP does not end this process. What it asks is remembered until somebody heeds it, or lets go of it. */
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
