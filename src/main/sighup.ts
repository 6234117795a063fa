/**
 * Handles SIGHUP. In a process that runs a node, the signal makes the node reread its files, and never ends the process. It ends every other
 * command.
 */
let isAsked = false;
let heed = (): void => {
  isAsked = true;
};
const hear = (): void => heed();

/** Prevents SIGHUP from ending this process. A signal is remembered until `heedHangUp` or `letHangUpEnd` is called. */
export function holdHangUp(): void {
  process.on("SIGHUP", hear);
}

/** Lets SIGHUP end this process, because it runs no node. A signal that was remembered ends it now. */
export function letHangUpEnd(): void {
  process.off("SIGHUP", hear);
  if (isAsked) process.kill(process.pid, "SIGHUP");
}

/** Runs `reload` at each SIGHUP, and once now if a signal was remembered. */
export function heedHangUp(reload: () => void): void {
  heed = reload;
  if (isAsked) reload();
  isAsked = false;
}
