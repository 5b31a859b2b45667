//! Throwaway hosts on one machine that run the real services.
