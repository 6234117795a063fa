/**
 * Handles SIGHUP. Handles SIGHUP: in a process that runs a node, the signal makes the node reread its files, and never ends the process. In every
 * other command, the signal ends the process.
 */
let isAsked = false;
let heed = (): void => {
  isAsked = true;
};
const hear = (): void => heed();

/** Prevents SIGHUP from ending this process. A received signal is remembered until `heedHangUp` or `letHangUpEnd` is called. */
export function holdHangUp(): void {
  process.on("SIGHUP", hear);
}

/** Lets SIGHUP end this process, because it does not run a node. A remembered signal ends it now. */
export function letHangUpEnd(): void {
  process.off("SIGHUP", hear);
  if (isAsked) process.kill(process.pid, "SIGHUP");
}

/** Runs `reload` at each SIGHUP. If a signal was remembered, also runs it once now. */
export function heedHangUp(reload: () => void): void {
  heed = reload;
  if (isAsked) reload();
  isAsked = false;
}
