//! What every daemon of ours needs: logs, shutdown, retry policy, metrics and health listener.
